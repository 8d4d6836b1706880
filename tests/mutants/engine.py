"""Bugs in the engine: what is shared by the workers of one batcher."""

from tests.mutants._bug import Bug

CORE = "batcher/_core.py"
RUNS = "batcher/_runs.py"
DOOR = "batcher/_door.py"
ITEM = "batcher/_item.py"
FORM = "batcher/_form.py"

BUGS = [
    Bug(
        CORE,
        "kept = [item for item in items if item.scope is None and not item.sink.done()]",
        "kept = [item for item in items if item.scope is None]",
        "who has left runs all the same",
    ),
    Bug(
        CORE,
        "if pause > 0 and not (self.closing and lanes.size):",
        "if pause > 0:",
        "closing waits for company that cannot come any more",
    ),
    Bug(
        CORE,
        "                if other is not queue:\n                    other.wake()\n",
        "",
        "calls that get room in the queue of another loop are run by nobody",
    ),
    Bug(
        CORE,
        "            if batch is not None or not seated:",
        "            if True:",
        "who gets the room of calls that had all left is run by nobody",
    ),
    Bug(
        CORE,
        "            self.door.leave([*items, *(item for item, _ in gone)])",
        "            self.door.leave(items)",
        "those who are gone take up room in the queue for ever",
    ),
    Bug(
        CORE,
        "            if left <= 0:\n                gone.append",
        "            if left <= -1:\n                gone.append",
        "items run though their time is over",
    ),
    Bug(
        CORE,
        "            elif left < reach:\n                late.append(item)\n",
        "",
        "who cannot be answered in time takes the place of those who can",
    ),
    Bug(
        CORE,
        "while late and (not batch or bounded([*batch, late[-1]]) <= self.limit):",
        "while late and not batch:",
        "who would probably be late is given up though there is room",
    ),
    Bug(
        CORE,
        "while late and (not batch or bounded([*batch, late[-1]]) <= self.limit):",
        "while late:",
        "those who would be late are added to full batches",
    ),
    Bug(
        CORE,
        "            except BaseException as error:  # noqa: BLE001 - of one caller's clock",
        "            except EOFError as error:  # noqa: BLE001 - of one caller's clock",
        "one caller's broken clock fails whoever is queued with it",
    ),
    Bug(
        CORE,
        "return alike and not left and (batch.plain",
        "return alike and (batch.plain",
        "who has left runs all the same, if nothing else is special",
    ),
    Bug(
        CORE,
        "return alike and not left and (batch.plain",
        "return not left and (batch.plain",
        "items of other shapes are joined with those that came with them",
    ),
    Bug(
        CORE,
        "            staged.extendleft(reversed(calls))\n        self.door.stage",
        "            staged.extendleft(calls)\n        self.door.stage",
        "what cannot be cut as it came is put back the wrong way round",
    ),
    Bug(
        CORE,
        "if self.door.bound and not lanes.size:",
        "if self.door.bound:",
        "those who came last overtake those in lanes",
    ),
    Bug(
        CORE,
        "pause = 0.0 if full or self.closing else lanes.hold(came, now)",
        "pause = 0.0",
        "a batch is cut at once though it could wait for company",
    ),
    Bug(
        CORE,
        "            if count > 1 or self.running or came < self.door.ran_until:\n"
        "                lanes.overlap()\n",
        "",
        "a hold in which nobody came is never repeated, however many come together later",
    ),
    Bug(
        CORE,
        "lanes.held(alone=count == 1 and not staged)",
        "lanes.held(alone=False)",
        "a lone caller waits for company at each call",
    ),
    Bug(
        CORE,
        "return first > now + self.pace.reach(batch.size)",
        "return True",
        "items that came without anything special run though their time is over",
    ),
    Bug(
        CORE,
        "self.pace.limit = max(1, min(self.limit, half))",
        "self.pace.limit = max(1, half)",
        "a smaller bound is forgotten when a large batch runs out of memory later",
    ),
    Bug(
        CORE,
        "self.pace.limit = max(1, min(self.limit, half))",
        "self.pace.limit = min(self.limit, half)",
        "when one item alone takes too much memory, nobody is ever served again",
    ),
    Bug(
        CORE,
        "            if not closed:\n                self.limit = self.pace.limit = self.settings.form.limit\n",
        "",
        "a batcher that is opened again still knows the memory of the time before",
    ),
    Bug(
        CORE,
        "            kept = self._sift(items, gone, late) + late\n        if gone:",
        "            kept = self._sift(items, gone, late)\n        if gone:",
        "who would probably be late is lost when a batch is run again in parts",
    ),
    Bug(
        CORE,
        "            waiting = self._sift(items, gone, late) + late\n",
        "            waiting = self._sift(items, gone, late)\n",
        "closing loses those who would probably have been late",
    ),
    Bug(
        CORE,
        "        for other in self.door.seat():\n            other.wake()\n        self._untold",
        "        self._untold",
        "room that is made by refusing one loop's calls is given to nobody",
    ),
    Bug(
        CORE,
        "if not self._emptied or self._untold or self.door.waiting():",
        "if not self._emptied or self._untold:",
        "closing does not wait for what is queued",
    ),
    Bug(
        CORE,
        "if not self._emptied or self._untold or self.door.waiting():",
        "if not self._emptied or self.door.waiting():",
        "closing does not wait for what is running",
    ),
    Bug(
        CORE,
        "            self._untold -= len(items)\n        queue.wake()",
        "        queue.wake()",
        "what was put back is waited for twice, so closing never ends",
    ),
    Bug(
        CORE,
        "            if self.counts.refusals[error.reason]:\n"
        "                self.counts.refusals[error.reason] -= 1",
        "            pass",
        "map counts a refusal each time it finds the queue full and waits",
    ),
    Bug(
        RUNS,
        "            if not self._left or self._abandoned:\n",
        "            if not self._left:\n",
        "a call that was given up and comes back after all runs on with the rest of its batch",
        equivalent="abandon() takes along what is left, under the lock, so none is there to run; "
        "the flag only spares who popped it just before, which is answered all the same",
    ),
    Bug(
        RUNS,
        "                waiting = core.still_waiting(batch.items)",
        "                waiting = batch.items",
        "who left or is late is run again with the others",
    ),
    Bug(
        RUNS,
        "                self._left += [Batch(items[middle:]), Batch(items[:middle])]",
        "                self._left += [Batch(items[middle:])]",
        "half of a batch that failed is lost",
    ),
    Bug(
        RUNS,
        "                self._left += [Batch(items[middle:]), Batch(items[:middle])]",
        "                self._left += [Batch(items[middle:]), Batch(items[: middle + 1])]",
        "an item runs in both halves",
    ),
    Bug(
        RUNS,
        "            if self._claimed is not None:  # while they were being answered\n"
        "                self.give_up(self._core.broken(error))\n",
        "",
        "what a hook raises leaves a whole batch without an answer",
    ),
    Bug(
        RUNS,
        "errors = [own(failure) for _ in range(size)]",
        "errors = [failure for _ in range(size)]",
        "callers share one exception, and with it one traceback",
    ),
    Bug(
        RUNS,
        "        if len(rows) != len(xs):",
        "        if len(rows) < len(xs):",
        "a layout that cuts too many results is believed",
    ),
    Bug(
        RUNS,
        "if size == 1 or not core.settings.isolate or isinstance",
        "if size == 1 or isinstance",
        "functions that must not run twice are run again",
    ),
    Bug(
        RUNS,
        "        if isinstance(failure, OSError | ModelServeError):\n            return False\n",
        "",
        "an outage has every item tried alone",
    ),
    Bug(
        RUNS,
        "        if too_large:\n            return True\n",
        "",
        "what ran out of memory spends the reruns that are for bad items",
    ),
    Bug(
        RUNS,
        "            if self.batch is not batch:\n                return False\n",
        "",
        "who was given up is answered a second time when the call comes back",
    ),
    Bug(
        RUNS,
        "            self.batch, self._left, self._abandoned = None, [], True",
        "            self.batch, self._abandoned = None, True",
        "what waits to be run again is answered from two sides",
        equivalent="next() looks at `_abandoned` too, so nothing that is left is run here again; "
        "nor is it given up, since that is done by who runs the batch and has ended then",
    ),
    Bug(
        RUNS,
        "        core.landed(len(items))\n",
        "",
        "closing waits for ever for calls that have been failed",
    ),
    Bug(
        DOOR,
        "free = not (self._closed or",
        "free = not (",
        "a closed batcher takes calls that nothing else stands against",
    ),
    Bug(
        DOOR,
        "free = free and not asks and len(self.staged) <= 1",
        "free = free and not asks",
        "each loop may fill a queue of its own, so the bound is no bound",
    ),
    Bug(
        DOOR,
        "        if held >= self._settings.max_queue_size:",
        "        if held > self._settings.max_queue_size:",
        "one more may be queued than was said",
    ),
    Bug(
        DOOR,
        'return "bytes" if after > self._settings.max_queue_bytes else None',
        "return None",
        "large items fill the memory",
    ),
    Bug(
        DOOR,
        "            self._bytes -= sum(item.nbytes for item in items)\n",
        "",
        "bytes of what has left the queue count for ever",
    ),
    Bug(
        DOOR,
        "        lack = self._lack(item)\n        if lack is not None or self._lobby:",
        "        lack = self._lack(item)\n        if lack is not None:",
        "who comes just when there is room overtakes those who waited for it",
    ),
    Bug(
        DOOR,
        "        for guest in guests:\n            if guest.seated is not None:\n"
        "                guest.seated.settle(None, None)\n        return",
        "        return",
        "submit hangs if the batcher is closed while it waits for room",
    ),
    Bug(
        DOOR,
        "            late = self._pace.lateness(now, self.load, item.size, left, self._each())\n",
        "            late = 0.0\n",
        "calls that cannot be answered in time are let in",
    ),
    Bug(
        ITEM,
        "group = [sink for its, sink, _ in whole if its is loop]",
        "group = [sink for _, sink, _ in whole]",
        "every loop's callers are settled on every loop",
    ),
    Bug(
        ITEM,
        "            with contextlib.suppress(RuntimeError):  # closed",
        "            with contextlib.suppress(OSError):  # closed",
        "a loop that has closed costs the other callers their answers",
    ),
    Bug(
        ITEM,
        "        if not future.done():\n            future.set_result(row)",
        "        if not future.cancelled():\n            future.set_result(row)",
        "an answer for one who was let go at the deadline costs the others theirs",
    ),
    Bug(
        FORM,
        "return len(items) * self._padded(max(item.size for item in items))",
        "return sum(self._padded(item.size) for item in items)",
        "a padded batch is taken for as small as its items",
    ),
    Bug(
        FORM,
        "if not 0 <= size < math.inf:",
        "if not 0 <= size:",
        "an infinite size is queued, and fits no batch",
    ),
]
