"""Bugs in how callers wait."""

from tests.mutants._bug import Bug

WAITING = "predictor/_waiting.py"
AIO = "predictor/_aio.py"

BUGS = [
    Bug(
        WAITING,
        "return self._left or self._settled",
        "return self._settled",
        "a caller that left a thread is taken for one that waits, so its item runs",
    ),
    Bug(
        WAITING,
        "        except BaseException:\n            self.leave()\n            raise\n",
        "        except Exception:\n            self.leave()\n            raise\n",
        "an interrupted caller never leaves",
    ),
    Bug(
        WAITING,
        "if remaining <= 0 and self._lock.locked():",
        "if remaining <= 0:",
        "an answer that came is refused since the deadline has passed by now",
    ),
    Bug(
        WAITING,
        "if self._lock.acquire(timeout=_limited(remaining)):\n                return",
        "self._lock.acquire(timeout=_limited(remaining))\n            return",
        "a deadline that passes while waiting gives None for an answer",
    ),
    Bug(
        WAITING,
        "        if self.future.done():\n            return\n        if error is None:\n"
        "            self.future.set_result(value)",
        "        if error is None:\n            self.future.set_result(value)",
        "settling a caller that was cancelled raises, and its neighbours are never answered",
    ),
    Bug(
        AIO,
        "        future.exception()  # seen: nobody else will ask",
        "        pass",
        "an error that nobody will ask for is logged as never retrieved",
        equivalent="cancel() of a future that is done marks its error as seen by itself",
    ),
    Bug(
        WAITING,
        "if not self.future.set_running_or_notify_cancel():\n                return",
        "self.future.set_running_or_notify_cancel()",
        "settling a future that was cancelled is logged as a fault of its callbacks",
    ),
    Bug(
        WAITING,
        "        except BaseException:  # noqa: BLE001 - a callback's",
        "        except Exception:  # noqa: BLE001 - a callback's",
        "a callback that exits takes the answers of the others along",
    ),
    Bug(
        WAITING,
        "        if loop is None or loop is here:\n            sink.settle(value, error)",
        "        if loop is None or here is not None:\n            sink.settle(value, error)",
        "a future of another loop is settled here, and its loop is never woken",
    ),
    Bug(
        WAITING,
        "        except RuntimeError:  # closed: its callers went with it\n            continue",
        "        except RuntimeError:\n            return",
        "one loop that has closed costs the other loops their answers",
    ),
    Bug(
        WAITING,
        "left = self._inside.get(loop, 1) - 1\n        if left:",
        "left = self._inside.get(loop, 1) - 1\n        if left > 1:",
        "a tally forgets the last call in progress, so closing does not wait for it",
    ),
    Bug(
        AIO,
        "if self._heap[0] == tick:\n                self._wind()",
        "if self._timer is None:\n                self._wind()",
        "an earlier deadline than all before is looked at too late",
    ),
    Bug(
        AIO,
        "while self._heap and self._heap[0] <= due:",
        "if self._heap and self._heap[0] <= due:",
        "of several ticks that passed at once only the first is looked at",
        equivalent="_turn winds the timer again for the tick that is left, which is due at once",
    ),
    Bug(
        AIO,
        "            if remaining > 0:\n                kept[waiter] = self.keep(waiter, scope, name, remaining, now)",
        "            if False:\n                kept[waiter] = self.keep(waiter, scope, name, remaining, now)",
        "a caller whose deadline was raised while it waited is let go at the old one",
    ),
    Bug(
        AIO,
        "        if self._heap:\n            self._wind()\n\n    def _look",
        "\n\n    def _look",
        "the wheel stops after its first turn: later deadlines are never looked at",
    ),
    Bug(
        AIO,
        "    finally:\n        forget(kept, future)\n\n\nasync def settles",
        "    finally:\n        pass\n\n\nasync def settles",
        "a caller that was answered stays on the wheel until its deadline",
    ),
    Bug(
        AIO,
        "return task is not None and task.cancelling() > 0",
        "return task is not None",
        "a model that raises CancelledError ends the task that runs it",
    ),
]
