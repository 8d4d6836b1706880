"""TrafficSplitter itself: choosing, counting, swapping weights."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from typing import TYPE_CHECKING, Any, final

from modelserve._policy.bandit import Bandit
from modelserve._policy.buckets import pick, shares
from modelserve.errors import BadInput
from modelserve.predictor import (
    Counter,
    Primitive,
    Spec,
    achunks,
    check_call,
    chunks,
    on_fork,
    refuse_on_loop,
)
from modelserve.request import Request, current
from modelserve.splitter._checks import check_learning, check_words, name_of
from modelserve.splitter._exposures import Exposures
from modelserve.splitter._many import by_arm, in_order
from modelserve.splitter._policies import Learning
from modelserve.splitter._rewards import Outcomes, Rewards
from modelserve.splitter._variant import (
    Arm,
    Assignment,
    AssignmentFact,
    HashSplit,
    Policy,
    Snapshot,
    SplitterStats,
    Variant,
    VariantStats,
)
from modelserve.typing import In, Out

if TYPE_CHECKING:
    from modelserve.typing import Clock


CHUNK = 256
"""Inputs of a ``map`` that are assigned together."""


@final
class TrafficSplitter(Primitive[In, Out]):
    """Send each unit's calls to one of several variants.

    The unit, a user or a session, is ``unit(x)`` if that function is given, else the ``unit`` of
    the request in force; calls without one are drawn at random, and counted as such. The same unit
    gets the same variant in every process for as long as the weights stand; another ``salt`` makes
    another, independent split. ``overrides`` maps units to the variants they are forced to, and
    ``exposures`` keeps who saw which variant.

    Weights are shares that sum to 1; without any the shares are equal. ``set_weights`` swaps them
    at once and ``rollback`` swaps them back; requests in flight finish where they began. With a
    ``policy`` that learns, shares follow the rewards told by ``reward``, and each call draws anew.

    Raises ValueError for no variants, equal names, and weights that are no shares or do not sum
    to 1; :class:`~modelserve.NestingError` where it is called from below a cache or a batcher.

    >>> import modelserve as ms
    >>> split = ms.TrafficSplitter(
    ...     ms.Variant("stable", str.upper, weight=0.9),
    ...     ms.Variant("candidate", str.lower, weight=0.1),
    ...     salt="case-2026-11",
    ... )
    >>> with ms.request(unit="user-42") as r:
    ...     split("Hello"), r.record["case-2026-11.variant"]
    ('HELLO', 'stable')
    """

    kind = "TrafficSplitter"
    not_below = {  # noqa: RUF012 - never changed
        "batch": "put a batcher inside each variant",
        "flight": "put the cache inside each variant",
    }

    def __init__(  # noqa: PLR0913 - one word each, all of them of the field
        self,
        *variants: Variant[In, Out],
        salt: str,
        unit: Callable[[In], str] | None = None,
        policy: Policy | Learning | None = None,
        overrides: Mapping[str, str] | None = None,
        exposures: Exposures | None = None,
        rng: random.Random | None = None,
        name: str | None = None,
        clock: Clock = time.time,
    ) -> None:
        names = tuple(map(name_of, variants))
        check_words(names, salt, overrides or {})
        check_learning(salt, policy, [variant.weight for variant in variants])
        weights = shares(names, [variant.weight for variant in variants])
        options = {
            "salt": salt,
            "unit": unit,
            "policy": policy,
            "overrides": overrides,
            "exposures": exposures,
            "rng": rng,
            "name": name,
            "clock": clock,
        }
        parts = {variant.name: variant.predict for variant in variants}
        super().__init__(name or salt, parts, Spec(TrafficSplitter, variants, options))
        self._arms = tuple(Arm(v.name, v.predict, Counter(), Counter()) for v in variants)
        self._names = names
        self._salt = salt
        self._unit = unit
        self._policy: Policy = HashSplit()
        self._bandit: Bandit | None = None
        if isinstance(policy, Learning):
            self._bandit = policy.bandit(len(names))
        elif policy is not None:
            self._policy = policy
        self._rewards = Rewards(salt, names, self._bandit)
        self._overrides = {unit: names.index(name) for unit, name in (overrides or {}).items()}
        self._exposures = exposures
        self._given_rng = rng
        self._clock = clock
        self._random = Counter()
        self._snapshot = self._made(weights, None)
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        """Number assignments, and draw at random, otherwise than the parent and its children."""
        self._changing = threading.Lock()
        self._ids = map(
            f"{self._rewards.tag}-{os.urandom(6).hex()}-{{:x}}".format, itertools.count()
        )
        self._rng = self._given_rng or random.Random()  # noqa: S311 - no secret

    @property
    def stats(self) -> SplitterStats:
        """A snapshot of what happened so far."""
        weights = self.weights.values()
        return SplitterStats(
            {
                arm.name: VariantStats(weight, arm.calls.read(), arm.errors.read())
                for arm, weight in zip(self._arms, weights, strict=True)
            },
            self._random.read(),
        )

    @property
    def weights(self) -> dict[str, float]:
        """The share of each variant now: as set, or as learned."""
        bandit = self._bandit
        now = self._snapshot.weights if bandit is None else self._rewards.shares(bandit)
        return dict(zip(self._names, now, strict=True))

    @property
    def outcomes(self) -> dict[str, Outcomes]:
        """Count, sum and sum of squares of the rewards of each variant."""
        return self._rewards.outcomes

    def __call__(self, x: In, /) -> Out:
        """Answer by the variant of the call's unit."""
        if self.is_async:
            refuse_on_loop(self.name)
        scope = current()
        arm = self._arms[self._choose(x, scope)]
        if scope is not None and scope.warming:
            self.warm(x)
        try:
            y: Out = arm.predict(x)
        except Exception as error:
            self._count_error(arm, error, scope)
            raise
        return y

    async def acall(self, x: In, /) -> Out:
        """Answer by the variant of the call's unit, without blocking the event loop."""
        scope = current()
        arm = self._arms[self._choose(x, scope)]
        if scope is not None and scope.warming:
            await self.awarm(x)
        try:
            y: Out = await arm.predict.acall(x)
        except Exception as error:
            self._count_error(arm, error, scope)
            raise
        return y

    def map(self, xs: Iterable[In], /, *, return_exceptions: bool = False) -> Iterator[Out]:
        """Answer for many inputs, in order; each variant gets its own together."""
        if self.is_async:
            refuse_on_loop(self.name)
        scope = current()
        for chunk in chunks(xs, CHUNK):
            order = self._order(chunk, scope)
            answers: dict[int, Iterator[Any]] = {}
            for index, inputs in by_arm(chunk, order).items():
                many = self._arms[index].predict.map(inputs, return_exceptions=True)
                answers[index] = self._counted(list(many), index, scope)
            yield from in_order(order, answers, return_exceptions)

    async def amap(
        self, xs: Iterable[In] | AsyncIterable[In], /, *, return_exceptions: bool = False
    ) -> AsyncIterator[Out]:
        """Answer for many inputs like :meth:`map`, without blocking the event loop."""
        scope = current()
        async for chunk in achunks(xs, CHUNK):
            order = self._order(chunk, scope)
            answers: dict[int, Iterator[Any]] = {}
            for index, inputs in by_arm(chunk, order).items():
                many = self._arms[index].predict.amap(inputs, return_exceptions=True)
                answers[index] = self._counted([y async for y in many], index, scope)
            for y in in_order(order, answers, return_exceptions):
                yield y

    def assign(self, unit: str) -> Assignment:
        """Tell which variant a unit gets, and with what probability; counts nothing."""
        return self._assignment(*self._draw(unit), unit)

    def set_weights(self, weights: Mapping[str, float]) -> None:
        """Swap all weights at once; a variant that is not named gets none.

        Raises ValueError for unknown variants and weights that do not sum to 1.

        >>> import modelserve as ms
        >>> split = ms.TrafficSplitter(
        ...     ms.Variant("blue", str.upper, weight=1.0),
        ...     ms.Variant("green", str.lower, weight=0.0),
        ...     salt="colours",
        ... )
        >>> split.set_weights({"green": 1.0})
        >>> split("A"), split.weights
        ('a', {'blue': 0.0, 'green': 1.0})
        >>> split.rollback()
        >>> split("A")
        'A'
        """
        check_learning(self.name, self._spec.options["policy"])
        for name in weights:
            if name not in self._names:
                raise ValueError(f"{name!r} is no variant: choose from {list(self._names)}")
        given = shares(self._names, [weights.get(name, 0.0) for name in self._names])
        with self._changing:
            self._snapshot = self._made(given, self._snapshot)

    def reward(self, assignment: Assignment | str, value: float) -> bool:
        """Tell what a choice was worth: at any time, in any order, once.

        The assignment may come from any process; where its call was answered by a policy that
        learns, its id will do, for the last 100,000 choices. Returns False, and counts nothing, if
        that choice had its reward before. Tell every outcome, zeros too.

        Raises ValueError for a reward that is not finite or lies outside of the range that the
        policy declares, an assignment of another split or of an unknown variant, and an id that
        is not remembered.

        >>> import modelserve as ms
        >>> split = ms.TrafficSplitter(
        ...     ms.Variant("old", str.upper),
        ...     ms.Variant("new", str.lower),
        ...     salt="letters",
        ...     policy=ms.ThompsonSampling(),
        ... )
        >>> with ms.request() as r:
        ...     answer = split("a")
        >>> assignment = ms.Assignment(**r.record["letters.assignment"])
        >>> split.reward(assignment, 1.0), split.reward(assignment.id, 1.0)
        (True, False)
        >>> split.outcomes[assignment.variant].mean
        1.0
        """
        return self._rewards.give(assignment, value)

    def rollback(self) -> None:
        """Swap the weights back to what they were before the last change."""
        with self._changing:
            before = self._snapshot.before
            if before is None:
                raise ValueError(f"{self.name!r} has no weights before these to roll back to")
            self._snapshot = before

    def summary(self) -> str:
        """Shares and counts in a few words."""
        stats = self.stats
        shown = ", ".join(
            f"{name} {variant.weight:.4g}: {variant.calls:,} calls"
            + (f" {variant.errors:,} errors" if variant.errors else "")
            for name, variant in stats.variants.items()
        )
        return shown + (f"; {stats.random:,} at random" if stats.random else "")

    def _made(self, weights: tuple[float, ...], before: Snapshot | None) -> Snapshot:
        buckets = self._policy.table(self._salt, self._names, weights)
        kept = None if before is None else before._replace(before=None)
        return Snapshot(weights, buckets, kept)

    def _choose(self, x: In, scope: Request | None) -> int:
        """Choose the arm for one input, count it, and tell the record."""
        if self.life.closed:
            raise self.closed_error()
        unit = scope.unit if scope is not None else None
        if self._unit is not None:
            unit = self._unit(x)
        if scope is not None and scope.shared is not None:
            check_call(self, scope)
        index, propensity, bucket = self._draw(unit)
        counted = scope is None or not scope.warming
        if counted:
            self._arms[index].calls.add()
            if unit is None:
                self._random.add()
        exposures = self._exposures if counted and unit not in self._overrides else None
        if scope is not None or exposures is not None or self._bandit is not None:
            assignment = self._assignment(index, propensity, bucket, unit)
            if scope is not None:
                scope.trail.append(AssignmentFact(self.name, assignment))
            if exposures is not None:
                exposures.note(self.name, assignment)
            if self._bandit is not None and counted:
                self._rewards.tried(self._bandit, assignment.id, index)
        return index

    def _order(self, chunk: list[In], scope: Request | None) -> list[int | Exception]:
        """Choose for many inputs; an error stands in its input's place."""
        order: list[int | Exception] = []
        for x in chunk:
            try:
                order.append(self._choose(x, scope))
            except Exception as error:  # noqa: BLE001 - as above
                order.append(error)
        return order

    def _draw(self, unit: object) -> tuple[int, float, int | None]:
        """Return the index of a unit's arm, with what probability, and the unit's bucket."""
        if unit is not None and not isinstance(unit, str):
            raise TypeError(
                f"{self.name!r} was given a unit that is a {type(unit).__name__}: units are "
                "strings, so that they mean the same everywhere, as by unit=lambda x: str(...)"
            )
        snapshot = self._snapshot
        forced = None if unit is None else self._overrides.get(unit)
        if forced is not None:
            return forced, 1.0, None
        if self._bandit is not None:
            return *self._rewards.choose(self._bandit, self._rng.random()), None
        if unit is None:
            index = pick(snapshot.weights, self._rng.random())
            return index, snapshot.weights[index], None
        index, bucket = snapshot.buckets.choose(unit)
        return index, snapshot.weights[index], bucket

    def _assignment(
        self, index: int, propensity: float, bucket: int | None, unit: str | None
    ) -> Assignment:
        name = self._names[index]
        return Assignment(name, propensity, bucket, unit, next(self._ids), self._clock())

    def _count_error(self, arm: Arm, error: Exception, scope: Request | None) -> None:
        """A caller's bad input is nobody's error; time-outs and refusals are the variant's."""
        if not isinstance(error, BadInput) and (scope is None or not scope.warming):
            arm.errors.add()

    def _counted(self, answers: list[Any], index: int, scope: Request | None) -> Iterator[Any]:
        for y in answers:
            if isinstance(y, Exception):
                self._count_error(self._arms[index], y, scope)
        return iter(answers)
