"""TrafficSplitter itself: choosing, counting, swapping weights."""

from __future__ import annotations

import itertools
import math
import os
import random
import time
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from typing import TYPE_CHECKING, Any, TypeVar, cast, final

from modelserve._policy.buckets import pick, shares
from modelserve.errors import BadInput
from modelserve.predictor import (
    Counter,
    Primitive,
    Spec,
    achunks,
    check_call,
    chunks,
    refuse_on_loop,
)
from modelserve.request import Request, current
from modelserve.splitter._variant import (
    Arm,
    Assignment,
    AssignmentFact,
    Groups,
    HashSplit,
    Policy,
    Snapshot,
    SplitterStats,
    Variant,
    VariantStats,
)

if TYPE_CHECKING:
    from modelserve.typing import Clock

In = TypeVar("In")
Out = TypeVar("Out")
FnIn = TypeVar("FnIn")
FnOut = TypeVar("FnOut")

CHUNK = 256
"""Inputs of a ``map`` that are assigned together."""


@final
class TrafficSplitter(Primitive[In, Out]):
    """Send each unit's calls to one of several variants.

    The unit, a user or a session, is ``unit(x)`` if that function is given, else the ``unit`` of
    the request in force; calls without one are drawn at random, and counted as such. The same unit
    gets the same variant in every process for as long as the weights stand; another ``salt`` makes
    another, independent split. ``overrides`` maps units to the variants they are forced to.

    Weights are shares that sum to 1; without any the shares are equal. ``set_weights`` swaps them
    at once and ``rollback`` swaps them back; requests in flight finish where they began.

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
        policy: Policy | None = None,
        overrides: Mapping[str, str] | None = None,
        rng: random.Random | None = None,
        name: str | None = None,
        clock: Clock = time.time,
    ) -> None:
        names = tuple(variant.name for variant in variants)
        _check_variants(names, overrides or {})
        weights = shares(names, [variant.weight for variant in variants])
        options = {
            "salt": salt,
            "unit": unit,
            "policy": policy,
            "overrides": overrides,
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
        self._policy = policy or HashSplit()
        self._overrides = {unit: names.index(name) for unit, name in (overrides or {}).items()}
        self._rng = rng or random.Random()  # noqa: S311 - no secret
        self._clock = clock
        self._random = Counter()
        self._ids = map(f"{os.urandom(6).hex()}-{{:x}}".format, itertools.count())
        self._snapshot = self._made(weights, None)

    @property
    def stats(self) -> SplitterStats:
        """A snapshot of what happened so far."""
        weights = self._snapshot.weights
        return SplitterStats(
            {
                arm.name: VariantStats(weight, arm.calls.read(), arm.errors.read())
                for arm, weight in zip(self._arms, weights, strict=True)
            },
            self._random.read(),
        )

    @property
    def weights(self) -> dict[str, float]:
        """The share of each variant now."""
        return dict(zip(self._names, self._snapshot.weights, strict=True))

    def __call__(self, x: In, /) -> Out:
        """Answer by the variant of the call's unit."""
        if self.is_async:
            refuse_on_loop(self.name)
        scope = current()
        arm = self._choose(x, scope)
        try:
            return cast("Out", arm.predict(x))
        except Exception as error:
            self._count_error(arm, error, scope)
            raise

    async def acall(self, x: In, /) -> Out:
        """Answer by the variant of the call's unit, without blocking the event loop."""
        scope = current()
        arm = self._choose(x, scope)
        try:
            return cast("Out", await arm.predict.acall(x))
        except Exception as error:
            self._count_error(arm, error, scope)
            raise

    def map(self, xs: Iterable[In], /, *, return_exceptions: bool = False) -> Iterator[Out]:
        """Answer for many inputs, in order; each variant gets its own together."""
        if self.is_async:
            refuse_on_loop(self.name)
        scope = current()
        for chunk in chunks(xs, CHUNK):
            groups = self._grouped(chunk, scope)
            answers = {
                index: iter(list(arm.predict.map(inputs, return_exceptions=True)))
                for index, (arm, inputs) in groups.by_arm.items()
            }
            yield from self._in_order(groups, answers, scope, return_exceptions)

    async def amap(
        self, xs: Iterable[In] | AsyncIterable[In], /, *, return_exceptions: bool = False
    ) -> AsyncIterator[Out]:
        """Answer for many inputs like :meth:`map`, without blocking the event loop."""
        scope = current()
        async for chunk in achunks(xs, CHUNK):
            groups = self._grouped(chunk, scope)
            answers: dict[int, Iterator[Any]] = {}
            for index, (arm, inputs) in groups.by_arm.items():
                many = arm.predict.amap(inputs, return_exceptions=True)
                answers[index] = iter([y async for y in many])
            for y in self._in_order(groups, answers, scope, return_exceptions):
                yield y

    def assign(self, unit: str) -> Assignment:
        """Tell which variant a unit gets, and with what probability; counts nothing."""
        snapshot = self._snapshot
        forced = self._overrides.get(unit)
        index, bucket = snapshot.buckets.choose(unit)
        propensity = snapshot.weights[index] if forced is None else 1.0
        return self._assignment(index if forced is None else forced, propensity, bucket, unit)

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
        for name in weights:
            if name not in self._names:
                raise ValueError(f"{name!r} is no variant: choose from {list(self._names)}")
        given = shares(self._names, [weights.get(name, 0.0) for name in self._names])
        self._snapshot = self._made(given, self._snapshot)

    def rollback(self) -> None:
        """Swap the weights back to what they were before the last change."""
        now = self._snapshot
        if now.before is None:
            raise ValueError(f"{self.name!r} has no weights before these to roll back to")
        self._snapshot = now.before

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

    def _choose(self, x: In, scope: Request | None) -> Arm:
        """Choose the arm for one input, count it, and tell the record."""
        if self.life.closed:
            raise self.closed_error()
        unit = scope.unit if scope is not None else None
        if self._unit is not None:
            unit = self._unit(x)
        if scope is not None and scope.shared is not None:
            check_call(self, scope)
        snapshot = self._snapshot
        bucket = None
        propensity = math.nan
        if unit is None:
            index = pick(snapshot.weights, self._rng.random())
        elif unit in self._overrides:
            index, propensity = self._overrides[unit], 1.0
        else:
            index, bucket = snapshot.buckets.choose(unit)
        arm = self._arms[index]
        if scope is None or not scope.warming:
            arm.calls.add()
            if unit is None:
                self._random.add()
        if scope is not None:
            propensity = snapshot.weights[index] if math.isnan(propensity) else propensity
            assignment = self._assignment(index, propensity, bucket, unit)
            scope.trail.append(AssignmentFact(self.name, assignment))
        return arm

    def _assignment(
        self, index: int, propensity: float, bucket: int | None, unit: str | None
    ) -> Assignment:
        name = self._names[index]
        return Assignment(name, propensity, bucket, unit, next(self._ids), self._clock())

    def _count_error(self, arm: Arm, error: Exception, scope: Request | None) -> None:
        """A caller's bad input is nobody's error; time-outs and refusals are the variant's."""
        if not isinstance(error, BadInput) and (scope is None or not scope.warming):
            arm.errors.add()

    def _grouped(self, chunk: list[In], scope: Request | None) -> Groups:
        groups = Groups([], {})
        for x in chunk:
            arm = self._choose(x, scope)
            index = self._arms.index(arm)
            groups.order.append(index)
            groups.by_arm.setdefault(index, (arm, []))[1].append(x)
        return groups

    def _in_order(
        self,
        groups: Groups,
        answers: dict[int, Iterator[Any]],
        scope: Request | None,
        return_exceptions: bool,  # noqa: FBT001 - internal
    ) -> Iterator[Any]:
        for index in groups.order:
            y = next(answers[index])
            if isinstance(y, Exception):
                self._count_error(self._arms[index], y, scope)
                if not return_exceptions:
                    raise y
            yield y


def _check_variants(names: tuple[str, ...], overrides: Mapping[str, str]) -> None:
    if not names:
        raise ValueError("a splitter needs variants: pass at least one Variant")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two variants are called {name!r}: give each a name of its own")
    for unit, name in overrides.items():
        if name not in names:
            raise ValueError(
                f"overrides: {unit!r} is forced to {name!r}, and the variants are {list(names)}"
            )
