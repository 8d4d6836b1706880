"""One batch, from the items to the answers, and what is run again when it fails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any

from modelserve.batcher._item import BatchNote, Item, answer, fail
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
    from modelserve.batcher._core import Core


ENDING = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""What asks a whole process to end, or a coroutine: no reason to run anything again."""


class Runs:
    """A batch and, if it fails, the parts that are run again.

    Use as ``while runs.next(): runs.done(predict(runs.batch()))``, and ``failed`` if that raises.
    Another thread may give it up meanwhile: items are answered by who takes them, under the lock.
    """

    __slots__ = (
        "_abandoned",
        "_again",
        "_claimed",
        "_core",
        "_counted",
        "_left",
        "_own",
        "_xs",
        "items",
        "scope",
        "started",
    )

    def __init__(self, core: Core, items: list[Item]) -> None:
        self._core = core
        self._left = [items]
        self._claimed: list[Item] = []
        """Who is being answered right now."""
        self._again = self._abandoned = False
        self._counted = len(items)
        """How many of the core's running are of this."""
        self._own = -1
        """How many more runs are this batch's own; -1 until it fails."""
        self._xs: list[Any] = []
        self.started = math.inf
        """When the last run began, by the batcher's clock; never, before the first."""
        self.items: list[Item] = []
        """Who is being run; nobody once they are answered or given up."""
        self.scope: Request = core.nobody

    def next(self) -> bool:
        """Go on to what is to be run next, if there is any."""
        core = self._core
        items: list[Item] = []
        while not items:
            if not self._left or self._abandoned:
                return False
            self.started = core.settings.clock()  # a clock that breaks takes nobody along
            items = self._left.pop()
            self._again = self._own >= 0
            if self._again:
                items = core.still_waiting(items)
        try:
            self.scope = self._scope_of(items)
            if core.settings.slo is not None:
                with core.lock:
                    core.pace.began(self, self.started, core.settings.form.measure(items))
        except BaseException:
            self._left.append(items)
            raise
        if self._again:
            with core.lock:
                core.running += len(items)
                self._counted = len(items)
        self.items = items
        return True

    def _scope_of(self, items: list[Item]) -> Request:
        core = self._core
        scopes = [item.scope for item in items if item.scope is not None]
        if not scopes:
            return core.nobody
        if any(item.due != item.due for item in items):  # NaN: who joins may raise it
            waiters = scopes if len(scopes) == len(items) else [*scopes, None]
            return shared_scope(waiters, "batch", core, core)
        due = max(item.due for item in items)
        return bounded_scope(scopes, "batch", core, due, core.settings.clock)

    def batch(self) -> Any:
        """Join the items."""
        items = self.items
        self._xs = [item.x for item in items] * items[0].copies
        return self._core.settings.form.layout.join(self._xs)

    def done(self, result: Any) -> None:
        """Take a result: to each caller its own. Raises BadOutput."""
        items = self.items
        if not items:
            return
        rows = self._rows(result)
        bad: dict[int, BaseException] = {}
        if any(issubclass(kind, Exception) for kind in set(map(type, rows))):
            found = enumerate(rows[: len(items)])
            bad = {at: self._own_error(row) for at, row in found if isinstance(row, Exception)}
        if not self._claim(items, None, len(bad)):
            return
        if bad:
            good = [at for at in range(len(items)) if at not in bad]
            fail([items[at] for at in bad], bad.values())
            answer([items[at] for at in good], [rows[at] for at in good])
        else:
            answer(items, rows)
        self._land(items)

    def failed(self, error: BaseException) -> None:
        """Take a failure: two halves to run instead, or its own error for each caller."""
        items = self.items
        if not items:
            if self._claimed:  # while they were being answered
                self.give_up(self._core.broken(error))
            return
        failure = from_model(error, repr(self._core.settings.name))
        if self._can_be_halved(items, failure):
            if self._claim(items, failure, 0):
                middle = len(items) // 2
                self._left += [items[middle:], items[:middle]]
                self._claimed = []
            return
        errors = [own(failure) for _ in items]
        late = isinstance(failure, DeadlineExceeded)
        if self._claim(items, failure, 0 if late else len(items)):
            fail(items, errors)
            self._land(items)

    def abandon(self, since: float, failure: Exception) -> list[Item] | None:
        """Fail those whose run hangs, from outside; return those who wait to be run again.

        None says that what began at ``since`` has ended.
        """
        core = self._core
        with core.lock:
            items, left = self.items, [item for part in self._left for item in part]
            if not items or self.started != since:
                return None
            self.items, self._left, self._abandoned = [], [], True
            core.pace.ended(self)
            core.running -= self._counted
            self._counted = 0
            if not self.scope.warming:
                core.counts.stuck += 1
                core.counts.errors += len(items)
        fail(items, [own(failure) for _ in items])
        core.landed(len(items))
        return left

    def give_up(self, failure: Exception) -> int:
        """Fail all who have no answer yet, so that nobody waits for ever; count them."""
        core = self._core
        with core.lock:
            items = [*self.items, *self._claimed, *(item for part in self._left for item in part)]
            core.running -= self._counted
            self._counted = 0
            core.pace.ended(self)
            self.items, self._claimed, self._left = [], [], []
        waiting = [item for item in items if not item.sink.done()]
        fail(waiting, [own(failure) for _ in waiting])
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

    def _can_be_halved(self, items: list[Item], failure: Exception) -> bool:
        core, size = self._core, len(items)
        too_large = is_out_of_memory(failure)
        if too_large:
            core.halve_limit(items)
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

    def _claim(self, items: list[Item], error: Exception | None, errors: int) -> bool:
        """Count a run and take its items over, unless they have been given up meanwhile."""
        core, settings = self._core, self._core.settings
        seconds = settings.clock() - self.started
        with core.lock:
            if self.items is not items:
                return False
            self.items, self._claimed = [], items
            failed, warming = error is not None, self.scope.warming
            core.ran(items, seconds, errors, failed=failed, warming=warming)
            self._counted = 0
            core.door.ran_until = self.started + seconds
            if self._again:
                core.counts.reruns += 1
            if settings.slo is not None:
                core.pace.ended(self)
        if self.scope is not core.nobody:
            self._note(items, seconds)
        if settings.on_event is not None and not self.scope.warming:
            waited = self.started - min(item.at for item in items)
            done = BatchDone(settings.name, len(items), waited, seconds, error)
            tell(settings.on_event, done)
        return True

    def _note(self, items: list[Item], seconds: float) -> None:
        """Extend the trail of every caller by what this run put on its own."""
        facts, name = self.scope.trail, self._core.settings.name
        for scope, item in {item.scope: item for item in items}.items():
            if scope is not None:
                note = BatchNote(name, len(items), self.started - item.at, seconds)
                scope.trail.extend((*facts, note))

    def _land(self, items: list[Item]) -> None:
        self._claimed = []
        self._core.landed(len(items))


def run(core: Core, runs: Runs) -> None:
    """Run a batch on this thread and answer its callers."""
    try:
        while runs.next():
            try:
                runs.done(Context().run(in_scope, runs.scope, core.predict, runs.batch()))
            except BaseException as error:  # noqa: BLE001 - a worker outlives its model
                runs.failed(error)
    except BaseException as error:  # noqa: BLE001 - and a clock, a broken exception
        runs.give_up(core.broken(error))
