"""Bugs where batches run: worker threads, tasks of a loop, and the watch over both."""

from tests.mutants._bug import Bug

WORKERS = "batcher/_workers.py"
TASKS = "batcher/_tasks.py"
QUEUES = "batcher/_queues.py"
WATCH = "batcher/_watch.py"
BATCHER = "batcher/_batcher.py"

BUGS = [
    Bug(
        WORKERS,
        "        elif self._alive < self._most:\n",
        "        elif self._alive <= self._most:\n",
        "one worker too many",
    ),
    Bug(
        WORKERS,
        "        self.idle = bool(self._parked) or self._alive < self._most\n        return start",
        "        self.idle = False\n        return start",
        "staged calls wait though there are idle workers",
    ),
    Bug(
        WORKERS,
        "start = self._is_due() and self._call()",
        "start = False",
        "a call that is staged just when the last worker parks is run by nobody",
    ),
    Bug(
        WORKERS,
        "                self.idle = True\n"
        "                # asked after idle was set: by one who saw it was not\n"
        "                start = self._is_due() and self._call()\n",
        "                start = self._is_due() and self._call()\n"
        "                self.idle = True\n",
        "a call that is staged between the last look and the parking is run by nobody",
    ),
    Bug(
        WORKERS,
        "            look, refusal = core.door.let_in(item, self, seated, busy=core.running > 0)\n"
        "            start = look and self._call()",
        "            look, refusal = core.door.let_in(item, self, seated, busy=core.running > 0)\n"
        "            start = look and refusal is None and self._call()",
        "who was staged is forgotten when another is refused",
    ),
    Bug(
        WORKERS,
        "                start = self.lanes.size + len(self.staged) > 0 and self._call()\n"
        "            else:",
        "                pass\n            else:",
        "only one worker runs, however many are queued",
    ),
    Bug(
        WORKERS,
        "            elif not place.lock.locked():  # called after its wait had timed out\n"
        "                place.lock.acquire()\n"
        "                place.workers = None\n",
        "",
        "a worker that was called just when its wait ended runs past its next parking",
    ),
    Bug(
        WORKERS,
        "            self.idle = True\n        self.core.fail(self, self.core.broken(error))",
        "            self.idle = True\n        del error",
        "a worker that breaks leaves all who are queued without an answer",
    ),
    Bug(
        WORKERS,
        "            self._alive -= hanging\n",
        "",
        "a worker that hangs keeps its place, so nobody takes it",
    ),
    Bug(
        WORKERS,
        "            while self._parked:\n                self._call()\n",
        "            if self._parked:\n                self._call()\n",
        "closing ends one worker alone",
    ),
    Bug(
        WORKERS,
        "            Context().run(thread.start)",
        "            thread.start()",
        "workers see the variables of whoever called first",
        equivalent="before Python 3.14 threads begin in an empty context in any case",
    ),
    Bug(
        TASKS,
        "            if not place.future.done():  # it is, of a task that was cancelled",
        "            if True:",
        "waking a parked task that was cancelled raises, and the call is never run",
    ),
    Bug(
        TASKS,
        "elif self.lanes.size or self.staged:  # pushed after",
        "elif False:  # pushed after",
        "a call that comes while the last task ends is run by nobody",
    ),
    Bug(
        TASKS,
        "elif error is not None or (task.cancelled() and not place.parked):",
        "elif error is not None:",
        "callers whose loop ends before their batch begins are never told",
    ),
    Bug(
        TASKS,
        "            self.core.fail(self, self.core.broken(error))",
        "            pass",
        "a task that breaks leaves all who are queued without an answer",
    ),
    Bug(
        TASKS,
        "                if self.lanes.size or self.staged:\n                    self.look()\n",
        "",
        "only one task runs, however many are queued",
    ),
    Bug(
        TASKS,
        "            elif core.closing:\n                return False\n",
        "            elif core.closing:\n                self._park(place)\n"
        "                return True\n",
        "tasks park though their batcher is closed",
    ),
    Bug(
        TASKS,
        "        if not self._worked:\n            _dismiss(self._parked)",
        "        if not self._worked:\n            pass",
        "idle tasks never end",
    ),
    Bug(
        TASKS,
        "_dismiss(self._parked)\n        elif self._parked:",
        "_dismiss(self._parked)\n        elif False:",
        "tasks that worked when somebody last looked are never looked at again",
    ),
    Bug(
        TASKS,
        "        timer = loop.call_later(pause, self.look, context=Context())",
        "        timer = loop.call_later(10 * pause, self.look, context=Context())",
        "a batch is held back for longer than max_wait",
    ),
    Bug(
        TASKS,
        "            timer.cancel()\n            self._holds.discard(hold)",
        "            timer.cancel()",
        "what held a batch back once is woken in place of who could run the next",
    ),
    Bug(
        TASKS,
        "            runs.give_up(self._loop_ended() if ends else core.broken(error))",
        "            pass",
        "callers of a batch that breaks or whose loop ends are never told",
    ),
    Bug(
        TASKS,
        "                    if is_ours_to_end(error):\n                        raise\n"
        "                    runs.failed(error)",
        "                    runs.failed(error)",
        "the end of a loop is taken for an error of the model, and the batch is run again",
    ),
    Bug(
        TASKS,
        "            self._running.discard(runs)\n            enter(None)",
        "            self._running.discard(runs)",
        "a task keeps the request of its last batch alive",
    ),
    Bug(
        TASKS,
        "            task.cancel()\n            raise\n        if ended:",
        "            raise\n        if ended:",
        "a call of the model outlives the task that runs it",
    ),
    Bug(
        TASKS,
        "        task.add_done_callback(ended, context=Context())\n        task.cancel()",
        "        task.add_done_callback(ended, context=Context())",
        "a call that is given up is never cancelled",
    ),
    Bug(
        TASKS,
        "            if not task.cancelled():\n                task.exception()  # seen",
        "            if task.cancelled():\n                task.exception()  # seen",
        "an error of a call that was given up is logged as never retrieved",
    ),
    Bug(
        TASKS,
        "        if left:\n            core.put_back(self, left)\n",
        "",
        "who waited to be run again while another's rerun hung is never told",
    ),
    Bug(
        QUEUES,
        "        if not drain:\n            self.cancel_queued()\n",
        "",
        "closing without draining drains",
    ),
    Bug(
        QUEUES,
        "        for queue in self._all():\n            queue.wake()\n",
        "",
        "closing waits for those who are held back for company",
    ),
    Bug(
        QUEUES,
        "        for queue in queues:\n            queue.lose()\n",
        "",
        "calls of a loop that was closed are waited for for ever",
    ),
    Bug(
        WATCH,
        "            if runs not in self._replaced:\n                return True\n",
        "            if True:\n                return True\n",
        "a thread that comes back goes on beside the one that took its place",
    ),
    Bug(
        WATCH,
        "            self._armed = pause is not None",
        "            self._armed = True",
        "the watch looks once, and never again",
    ),
    Bug(
        WATCH,
        "            self._wait(min(pause, self._max_run))  # some may not have begun",
        "            pass",
        "calls that begin later than the first are never given up",
    ),
    Bug(
        WATCH,
        "            hang = len(self._replaced) >= MOST",
        "            hang = False",
        "threads that hang are replaced without a bound",
    ),
    Bug(
        WATCH,
        "        workers.replace(1 if hangs else 0)\n",
        "",
        "nobody takes the place of a thread that hangs",
    ),
    Bug(
        WATCH,
        "        core.put_back(workers, again)\n",
        "",
        "who waited to be run again while another's rerun hung is never told",
    ),
    Bug(
        QUEUES,
        "if door.queued + len(queue.staged) >= door.bound or (",
        "if (",
        "calls that nothing else stands against fill the queue without a bound",
    ),
    Bug(
        QUEUES,
        "x.__class__ not in SCALARS and nbytes(x) > door.small",
        "False",
        "large items are not counted",
    ),
    Bug(
        QUEUES,
        "        if queue.idle:\n            queue.attend()\n",
        "        queue.attend()\n",
        "every call takes the lock that staging is there to spare",
        equivalent="it costs time alone, which the benchmarks see",
    ),
    Bug(
        BATCHER,
        "            for sink in window:\n                sink.leave()",
        "            pass",
        "what map asked for runs on though nobody iterates any more",
    ),
    Bug(
        BATCHER,
        "            for future in window:\n                aio.leave(future)",
        "            pass",
        "what amap asked for runs on though nobody iterates any more",
    ),
    Bug(
        BATCHER,
        "            if can_wait and isinstance(error, Overloaded):",
        "            if isinstance(error, Overloaded) and False:",
        "map fails items though it could wait for its own to make room",
    ),
]
