"""What the variants' choices were worth: counted once, whenever it comes."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple, TypeVar

from modelserve._policy.bandit import Bandit
from modelserve.predictor import on_fork
from modelserve.splitter._variant import Assignment

_T = TypeVar("_T")

REMEMBERED = 100_000
"""Choices that can be named by their id, and rewards that are known to have come."""


class Outcomes(NamedTuple):
    """Rewards of one variant: how many, their sum and the sum of their squares.

    >>> Outcomes(2, 1.0, 1.0).mean
    0.5
    """

    rewards: int
    total: float
    squares: float

    @property
    def mean(self) -> float:
        """The mean reward, NaN before the first."""
        return self.total / self.rewards if self.rewards else math.nan


class Rewards:
    """Sums of rewards by variant, and the bandit that learns from them if there is one."""

    def __init__(self, salt: str, names: Sequence[str], bandit: Bandit | None) -> None:
        self.tag = blake2b(salt.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
        self._salt = salt
        self._names = tuple(names)
        self._bandit = bandit
        self._sums = [Outcomes(0, 0.0, 0.0)] * len(names)
        self._choices: OrderedDict[str, int] = OrderedDict()
        self._rewarded: OrderedDict[str, None] = OrderedDict()
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        """A child goes on from what was known, on its own."""
        self._lock = threading.Lock()

    @property
    def outcomes(self) -> dict[str, Outcomes]:
        """What came so far."""
        with self._lock:
            return dict(zip(self._names, self._sums, strict=True))

    def shares(self, bandit: Bandit) -> tuple[float, ...]:
        """With what probability each variant is chosen next."""
        with self._lock:
            return tuple(bandit.shares())

    def choose(self, bandit: Bandit, u: float) -> tuple[int, float]:
        """Return a variant and its propensity, by a number drawn evenly from [0, 1)."""
        with self._lock:
            return bandit.choose(u)

    def tried(self, bandit: Bandit, name: str, index: int) -> None:
        """Remember a choice that somebody was answered by."""
        with self._lock:
            bandit.tried(index)
            _remember(self._choices, name, index)

    def give(self, given: Assignment | str, value: float) -> bool:
        """Count a reward; False if that choice had one before."""
        if not math.isfinite(value):
            raise ValueError(f"reward={value} is not finite")
        name = given if isinstance(given, str) else given.id
        if not name.startswith(f"{self.tag}-"):
            raise ValueError(f"{name!r} was not assigned by the split {self._salt!r}")
        with self._lock:
            if name in self._rewarded:
                return False
            index = self._index(given)
            if self._bandit is not None:
                self._bandit.update(index, value)
            rewards, total, squares = self._sums[index]
            self._sums[index] = Outcomes(rewards + 1, total + value, squares + value * value)
            self._choices.pop(name, None)
            _remember(self._rewarded, name, None)
        return True

    def _index(self, given: Assignment | str) -> int:
        if not isinstance(given, str):
            if given.variant not in self._names:
                raise ValueError(
                    f"{given.variant!r} is no variant: choose from {list(self._names)}"
                )
            return self._names.index(given.variant)
        index = self._choices.get(given)
        if index is None:
            raise ValueError(
                f"the choice {given!r} is not remembered here: pass the whole assignment"
            )
        return index


def _remember(known: OrderedDict[str, _T], name: str, value: _T) -> None:
    known[name] = value
    if len(known) > REMEMBERED:
        known.popitem(last=False)
