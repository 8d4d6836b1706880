"""One batch, from the items to the answers, and what is run again when it fails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any

import numpy as np

from modelserve.batcher._item import Batch, BatchNote, Item, Loops, Ran, Sinks, answer, fail
from modelserve.errors import (
    BadOutput,
    DeadlineExceeded,
    ModelServeError,
    from_model,
    is_out_of_memory,
    own,
)
from modelserve.events import BatchDone, tell
from modelserve.request import Request, bounded_scope, in_scope, shared_scope

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from modelserve.batcher._core import Core

ORDINARY = frozenset({int, float, bool, str, bytes, list, tuple, dict, type(None), np.ndarray})
"""Types of results that are no errors."""

ENDING = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""What asks a whole process to end, or a coroutine: no reason to run anything again."""


class Runs:
    """A batch and, if it fails, the parts that are run again.

    Use as ``while runs.next(): runs.done(predict(runs.join()))``, and ``failed`` if that raises.
    Another thread may give it up meanwhile: items are answered by who takes them, under the lock.
    """

    __slots__ = (
        "_abandoned",
        "_again",
        "_claimed",
        "_core",
        "_counted",
        "_here",
        "_left",
        "_own",
        "_xs",
        "batch",
        "scope",
        "started",
    )

    def __init__(self, core: Core, batch: Batch, here: AbstractEventLoop | None = None) -> None:
        self._core = core
        self._here = here
        """The loop that it runs on."""
        self._left = [batch]
        self._claimed: Batch | None = None
        """Who is being answered right now."""
        self._again = self._abandoned = False
        self._counted = batch.size
        """How many of the core's running are of this."""
        self._own = -1
        """How many more runs are this batch's own; -1 until it fails."""
        self._xs: list[Any] = []
        self.started = math.inf
        """When the last run began, by the batcher's clock; never, before the first."""
        self.batch: Batch | None = None
        """Who is being run; nobody once they are answered or given up."""
        self.scope: Request = core.nobody

    def next(self) -> bool:
        """Go on to what is to be run next, if there is any."""
        core = self._core
        batch: Batch | None = None
        while batch is None:
            if not self._left or self._abandoned:
                return False
            self.started = core.settings.clock()  # a clock that breaks takes nobody along
            batch = self._left.pop()
            self._again = self._own >= 0
            if self._again:
                waiting = core.still_waiting(batch.items)
                batch = Batch(waiting) if waiting else None
        try:
            self.scope = core.nobody if batch.plain else self._scope_of(batch)
            if core.settings.slo is not None:
                with core.lock:
                    core.pace.began(self, self.started, core.settings.form.taken(batch))
        except BaseException:
            self._left.append(batch)
            raise
        if self._again:
            with core.lock:
                core.running += batch.size
                self._counted = batch.size
        self.batch = batch
        return True

    def _scope_of(self, batch: Batch) -> Request:
        core = self._core
        scopes = [scope for scope in batch.scopes if scope is not None]
        if not batch.known:  # who joins may raise it
            waiters = scopes if len(scopes) == batch.size else [*scopes, None]
            return shared_scope(waiters, "batch", core, core)
        return bounded_scope(scopes, "batch", core, max(batch.dues), core.settings.clock)

    def join(self) -> Any:
        """Join the inputs."""
        batch = self.batch
        assert batch is not None  # noqa: S101 - asked between next() and its end
        self._xs = xs = [*batch.xs] * batch.copies
        return self._core.settings.form.layout.join(xs)

    def done(self, result: Any) -> None:
        """Take a result: to each caller its own. Raises BadOutput."""
        batch = self.batch
        if batch is None:
            return
        rows = self._rows(result)
        bad: dict[int, BaseException] = {}
        kinds = set(map(type, rows))
        if not kinds <= ORDINARY and any(issubclass(kind, Exception) for kind in kinds):
            found = enumerate(rows[: batch.size])
            bad = {at: self._own_error(row) for at, row in found if isinstance(row, Exception)}
        if not self._claim(batch, None, len(bad)):
            return
        sinks: Sinks = batch.sinks
        loops: Loops = batch.loops
        if bad:
            good = [at for at in range(batch.size) if at not in bad]
            fail([sinks[at] for at in bad], [loops[at] for at in bad], bad.values())
            rows = [rows[at] for at in good]
            sinks, loops = [sinks[at] for at in good], [loops[at] for at in good]
        answer(sinks, loops, rows, self._here)
        self._claimed = None
        self._core.landed(batch.size)

    def failed(self, error: BaseException) -> None:
        """Take a failure: two halves to run instead, or its own error for each caller."""
        batch = self.batch
        if batch is None:
            if self._claimed is not None:  # while they were being answered
                self.give_up(self._core.broken(error))
            return
        failure = from_model(error, repr(self._core.settings.name))
        size = batch.size
        if self._can_be_halved(batch, failure):
            if self._claim(batch, failure, 0):
                items, middle = batch.items, size // 2
                self._left += [Batch(items[middle:]), Batch(items[:middle])]
                self._claimed = None
            return
        errors = [own(failure) for _ in range(size)]
        late = isinstance(failure, DeadlineExceeded)
        if self._claim(batch, failure, 0 if late else size):
            fail(batch.sinks, batch.loops, errors)
            self._claimed = None
            self._core.landed(size)

    def abandon(self, since: float, failure: Exception) -> list[Item] | None:
        """Fail those whose run hangs, from outside; return those who wait to be run again.

        None says that what began at ``since`` has ended.
        """
        core = self._core
        with core.lock:
            batch, left = self.batch, [item for part in self._left for item in part.items]
            if batch is None or self.started != since:
                return None
            self.batch, self._left, self._abandoned = None, [], True
            core.pace.ended(self)
            core.running -= self._counted
            self._counted = 0
            if not self.scope.warming:
                core.counts.stuck += 1
                core.counts.errors += batch.size
        fail(batch.sinks, batch.loops, [own(failure) for _ in batch.sinks])
        core.landed(batch.size)
        return left

    def give_up(self, failure: Exception) -> int:
        """Fail all who have no answer yet, so that nobody waits for ever; count them."""
        core = self._core
        with core.lock:
            parts = [self.batch, self._claimed, *self._left]
            items = [item for part in parts if part is not None for item in part.items]
            core.running -= self._counted
            self._counted = 0
            core.pace.ended(self)
            self.batch, self._claimed, self._left = None, None, []
        waiting = [item for item in items if not item.sink.done()]
        sinks, loops = [item.sink for item in waiting], [item.loop for item in waiting]
        fail(sinks, loops, [own(failure) for _ in waiting])
        core.landed(len(items))
        return len(waiting)

    def _rows(self, result: Any) -> Sequence[Any]:
        settings = self._core.settings
        layout = settings.form.layout
        xs, self._xs = self._xs, []
        try:
            rows = layout.cut(result, xs)
        except BadOutput as error:
            raise BadOutput(f"{settings.name!r} returned {error}") from None
        if len(rows) != len(xs):
            raise BadOutput(
                f"{layout!r} of {settings.name!r} cut {len(rows)} results for {len(xs)} items"
            )
        return rows

    def _own_error(self, error: Exception) -> BaseException:
        return own(from_model(error, repr(self._core.settings.name)))

    def _can_be_halved(self, batch: Batch, failure: Exception) -> bool:
        core, size = self._core, batch.size
        too_large = is_out_of_memory(failure)
        if too_large:
            core.halve_limit(batch)
        if size == 1 or not core.settings.isolate or isinstance(failure.__cause__, ENDING):
            return False
        if self._own < 0:
            self._own = core.reruns.own(size)
        if too_large:
            return True
        if isinstance(failure, OSError | ModelServeError):
            return False
        return self._may_rerun() and self._may_rerun()

    def _may_rerun(self) -> bool:
        if self._own > 0:
            self._own -= 1
            return True
        with self._core.lock:
            return self._core.reruns.take()

    def _claim(self, batch: Batch, error: Exception | None, errors: int) -> bool:
        """Count a run and take its items over, unless they have been given up meanwhile."""
        core, settings = self._core, self._core.settings
        seconds = settings.clock() - self.started
        with core.lock:
            if self.batch is not batch:
                return False
            self.batch, self._claimed = None, batch
            failed, warming = error is not None, self.scope.warming
            core.ran(batch, seconds, errors, failed=failed, warming=warming)
            self._counted = 0
            core.door.ran_until = self.started + seconds
            if self._again:
                core.counts.reruns += 1
            if settings.slo is not None:
                core.pace.ended(self)
        if self.scope is not core.nobody:
            self._note(batch, seconds)
        if settings.on_event is not None and not self.scope.warming:
            waited = self.started - min(batch.ats)
            done = BatchDone(settings.name, batch.size, waited, seconds, error)
            tell(settings.on_event, done)
        return True

    def _note(self, batch: Batch, seconds: float) -> None:
        """Extend the trail of every caller by what this run put on its own."""
        facts = self.scope.trail
        ran = Ran(self._core.settings.name, batch.size, self.started, seconds)
        for scope, at in dict(zip(batch.scopes, batch.ats, strict=True)).items():
            if scope is not None:
                if facts:
                    scope.trail.extend(facts)
                scope.trail.append(BatchNote(ran, at))


def run(core: Core, runs: Runs) -> None:
    """Run a batch on this thread and answer its callers."""
    try:
        while runs.next():
            try:
                runs.done(Context().run(in_scope, runs.scope, core.predict, runs.join()))
            except BaseException as error:  # noqa: BLE001 - a worker outlives its model
                runs.failed(error)
    except BaseException as error:  # noqa: BLE001 - and a clock, a broken exception
        runs.give_up(core.broken(error))
