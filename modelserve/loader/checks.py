"""Checks that a new version must pass before it serves, for ``check=`` of a loader.

A check is any function of ``(new, old)`` that raises, or returns False, if ``new`` must not serve.
Both are called like the loader, and ``old`` is None for the first version. Those made here compare
answers to the loader's warm-up inputs, so it must have some, and look into arrays of objects as
into lists:

>>> import numpy as np
>>> import modelserve as ms
>>> factors = iter([1.0, 1.01, float("nan")])
>>> loader = ms.ModelLoader(
...     lambda: next(factors),
...     predict=lambda factor, rows: factor * rows,
...     warmup=[np.ones((2, 3))],
...     check=[ms.checks.finite(), ms.checks.same_form(), ms.checks.drift(0.1)],
...     name="ranker",
... )
>>> loader.reload(), loader.reload()
('1', '2')
>>> loader.reload()
Traceback (most recent call last):
    ...
modelserve.errors.ModelLoadError: version 3 gives numbers that are not finite
>>> loader.version
'2'
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from modelserve.errors import ModelLoadError

__all__ = ["Candidate", "Check", "drift", "finite", "golden", "same_form"]

NUMBERS = "biufc"
"""The kinds of dtype that hold numbers."""


class Candidate(NamedTuple):
    """A version to be checked: the raw ``model``, its ``version``, and the warm-up ``inputs``.

    >>> Candidate(None, "v1", ("a",), str.upper)("b")
    'B'
    """

    model: Any
    version: str
    inputs: tuple[Any, ...]
    call: Callable[[Any], Any]

    def __call__(self, x: Any) -> Any:
        """Answer as the loader would."""
        return self.call(x)

    def answers(self) -> list[Any]:
        """Answer all warm-up inputs. Raises ModelLoadError without one, which would show nothing.

        >>> Candidate(None, "v1", ("a", "b"), str.upper).answers()
        ['A', 'B']
        """
        if not self.inputs:
            raise ModelLoadError(
                f"version {self.version} cannot be checked without inputs: pass warmup="
            )
        return [self.call(x) for x in self.inputs]


class Check(Protocol):
    """What ``check=`` takes."""

    def __call__(self, new: Candidate, old: Candidate | None, /) -> object:
        """Raise or return False if the new version must not serve."""
        ...


def finite() -> Check:
    """Refuse answers that hold an infinity or no number (NaN).

    >>> finite()(Candidate(None, "v1", (1.0,), lambda x: {"y": [x, x]}), None)
    """
    return _finite


def same_form() -> Check:
    """Refuse answers of other structure, shapes or dtypes than the old version's.

    Tensors of a dtype that NumPy lacks, such as bfloat16, count as float32.

    >>> old = Candidate(None, "v1", (np.ones(3),), lambda x: x)
    >>> same_form()(old._replace(version="v2", call=lambda x: 2 * x), old)
    """
    return _same_form


def golden(inputs: Sequence[Any], answers: Sequence[Any], *, tolerance: float = 1e-5) -> Check:
    """Refuse what does not answer ``inputs`` with ``answers``.

    Numbers may differ by the share ``tolerance`` of what they should be, and by as much besides;
    all else must be equal. Raises ValueError unless there are as many answers as inputs, and some.

    >>> golden([2.0], [4.0])(Candidate(None, "v1", (), lambda x: x * x), None)
    """
    if not 0 < len(inputs) == len(answers):
        raise ValueError(f"{len(inputs)} inputs and {len(answers)} answers: pass one for each")
    return partial(_golden, inputs, answers, tolerance)


def drift(most: float) -> Check:
    """Refuse numbers that are further than ``most`` from those of the old version.

    What is a number in one version and none in the other is refused, too.

    >>> old = Candidate(None, "v1", (1.0,), lambda x: x)
    >>> drift(0.1)(old._replace(call=lambda x: 1.05 * x), old)
    """
    return partial(_drift, most)


def _finite(new: Candidate, _: Candidate | None) -> None:
    for _path, leaf in _leaves(new.answers()):
        if leaf.dtype.kind in "fc" and not np.isfinite(leaf).all():
            raise ModelLoadError(f"version {new.version} gives numbers that are not finite")


def _same_form(new: Candidate, old: Candidate | None) -> None:
    answers = new.answers()
    if old is not None:
        _pairs(new, answers, old.answers(), f"version {old.version}")


def _golden(
    inputs: Sequence[Any],
    answers: Sequence[Any],
    tolerance: float,
    new: Candidate,
    _: Candidate | None,
) -> None:
    given = [new(x) for x in inputs]
    for path, got, want in _pairs(new, given, list(answers), "what it should give", kinds=False):
        if not _close(got, want, tolerance):
            raise ModelLoadError(f"version {new.version} gives wrong answers at {path}")


def _drift(most: float, new: Candidate, old: Candidate | None) -> None:
    answers = new.answers()
    if old is None:
        return
    was = f"version {old.version}"
    for path, got, want in _pairs(new, answers, old.answers(), was, kinds=False):
        if got.dtype.kind in NUMBERS and got.size:
            far = np.abs(got.astype(complex) - want.astype(complex)).max()
            if not far <= most:
                raise ModelLoadError(
                    f"version {new.version} is {far:.3g} from {was} at {path}, and {most:.3g} "
                    "is allowed"
                )


def _close(got: Any, want: Any, tolerance: float) -> bool:
    if got.dtype.kind in NUMBERS:
        return bool(np.allclose(got, want, rtol=tolerance, atol=tolerance, equal_nan=True))
    return bool(np.array_equal(got, want))


def _pairs(
    new: Candidate, given: Any, wanted: Any, whose: str, *, kinds: bool = True
) -> list[tuple[str, Any, Any]]:
    """Return the leaves of two answers side by side. Raises ModelLoadError if they do not match."""
    got, want = dict(_leaves(given)), dict(_leaves(wanted))
    if got.keys() != want.keys():
        raise ModelLoadError(f"version {new.version} answers in another structure than {whose}")
    for path, leaf in got.items():
        if leaf.shape != want[path].shape:
            raise ModelLoadError(
                f"version {new.version} gives the shape {leaf.shape} at {path}, and {whose} "
                f"{want[path].shape}"
            )
        if not _alike(leaf, want[path], exactly=kinds):
            raise ModelLoadError(
                f"version {new.version} gives {leaf.dtype} at {path}, and {whose} "
                f"{want[path].dtype}"
            )
    return [(path, leaf, want[path]) for path, leaf in got.items()]


def _alike(got: Any, want: Any, *, exactly: bool) -> bool:
    """Say whether the dtypes match: both numbers or neither, or ``exactly``, but for texts.

    The dtype of texts tells only how long they are.
    """
    if not exactly:
        return (got.dtype.kind in NUMBERS) == (want.dtype.kind in NUMBERS)
    texts = got.dtype.kind == want.dtype.kind and got.dtype.kind in "SU"
    return texts or bool(got.dtype == want.dtype)


def _leaves(y: Any, path: str = "y") -> Iterator[tuple[str, Any]]:
    """Give every array in an answer, and whatever is none as one, with where it stands."""
    kind = y.__class__
    if issubclass(kind, Mapping):
        for key, value in y.items():
            yield from _leaves(value, f"{path}[{key!r}]")
    elif issubclass(kind, list | tuple):
        for i, value in enumerate(y):
            yield from _leaves(value, f"{path}[{i}]")
    elif callable(getattr(y, "detach", None)):  # a tensor, maybe on a GPU
        try:
            yield path, y.numpy(force=True)
        except TypeError:  # NumPy lacks its dtype
            yield path, y.float().numpy(force=True)
    else:
        leaf = np.asarray(y)
        if leaf.ndim and leaf.dtype.kind == "O":
            yield from _leaves(leaf.tolist(), path)
        else:
            yield path, leaf
