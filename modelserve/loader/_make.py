"""Making a version: load, warm, check."""

from __future__ import annotations

import inspect
import itertools
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast, final

import numpy as np

from modelserve.errors import (
    Closed,
    Forked,
    ModelLoadError,
    Overloaded,
    causes,
    is_out_of_memory,
)
from modelserve.events import Hook, StageDone, tell
from modelserve.loader._forms import Warmup
from modelserve.loader._lease import Closing
from modelserve.loader._placing import Placing
from modelserve.loader._source import Source, Torn, read
from modelserve.loader._version import Fetched, Stamps, Version
from modelserve.loader.checks import Candidate, Check
from modelserve.predictor import name_of
from modelserve.request import warm_scope

if TYPE_CHECKING:
    from modelserve.typing import Clock


class Shunned(ModelLoadError):
    """A source holds what failed before or was rolled back."""

    def __init__(self, identity: object) -> None:
        super().__init__("what is there failed before or was rolled back")
        self.identity = identity


@final
class Maker:
    """Makes versions of what a source holds, and tells each stage."""

    def __init__(  # noqa: PLR0913 - internal
        self,
        name: str,
        source: Source,
        placing: Placing,
        *,
        predict: Callable[[Any, Any], Any] | None,
        threads: int | None,
        warmup: Warmup,
        checks: tuple[Check, ...],
        close: Callable[[Any], object] | None,
        clock: Clock,
        on_event: Hook | None,
    ) -> None:
        self._name = name
        self._source = source
        self._placing = placing
        self._predict = predict
        self._threads = threads
        self._warmup = warmup
        self._checks = checks
        self._closing = None if close is None else Closing(name, close, clock, on_event)
        self._clock = clock
        self._on_event = on_event
        self._stamps = Stamps(name)
        self._numbers = itertools.count(1)
        self._shunned: set[str | None] = set()

    def make(self, now: Version | None, *, unasked: bool) -> tuple[object, Version | None]:
        """Return the source's identity and a version that may serve, None if that of now does.

        What was shunned is made only if it is asked for, else Shunned is raised.
        """
        load = partial(self._make, now, unasked)  # a lambda's cells outlive clear_frames
        return self._placing.through(self._source, load)

    def _make(
        self,
        now: Version | None,
        unasked: bool,  # noqa: FBT001 - internal
        device: str | None,
    ) -> tuple[object, Version | None]:
        """Make, warm and check a version on a device."""
        started = self._clock()
        identity, fetched = read(self._source, now, device)
        if fetched is None:
            return identity, None
        if unasked and fetched.digest in self._shunned:
            raise Shunned(identity)
        if self._closing is not None and now is not None and fetched.model is now.model:
            return identity, None  # to be closed with the one, it cannot be the next
        try:
            version = self._version(fetched)
            self._placing.check(version.device())
            self.staged("load", version, started, fetched.nbytes)
            with warm_scope():
                self._warm(version)
                self._check(version, now)
        except Exception as error:
            if lasting(error):
                self.shun(fetched.digest)
            raise
        return identity, version

    def shun(self, digest: str | None) -> None:
        """Make no more of these bytes unless asked to."""
        if digest is not None:
            self._shunned.add(digest)

    def forgive(self) -> None:
        """Shun nothing."""
        self._shunned.clear()

    def _version(self, fetched: Fetched) -> Version:
        from modelserve import formats

        model, predict = fetched.model, self._predict
        known = formats.runtime(model)
        call = formats.caller(model, known) if predict is None else partial(predict, model)
        call = _on_threads(call, call if predict is None else predict)
        if self._threads is not None:
            is_file = self._source.is_file
            call = formats.budgeted(call, known, self._threads, is_file=is_file)
        stamp = self._stamps.of(fetched.label or str(next(self._numbers)))
        version = Version(model, call, stamp, known, fetched.digest)
        if self._closing is not None:
            self._closing.when_free(version)
        return version

    def _warm(self, version: Version) -> None:
        inputs = self._warmup.inputs()
        if inputs:
            started = self._clock()
            for x in inputs:
                version.call(x)
            self.staged("warm", version, started)

    def _check(self, version: Version, now: Version | None) -> None:
        if self._checks:
            started = self._clock()
            new = self._candidate(version)
            old = None if now is None else self._candidate(now)
            for check in self._checks:
                if _is_no(check(new, old)):
                    raise ModelLoadError(f"version {new.version} fails {name_of(check)!r}")
            self.staged("check", version, started)

    def _candidate(self, version: Version) -> Candidate:
        return Candidate(version.model, version.stamp.version, self._warmup.inputs(), version.call)

    def staged(
        self,
        stage: Literal["load", "warm", "check", "swap"],
        version: Version,
        started: float,
        nbytes: int = 0,
    ) -> None:
        """Tell that a stage is done."""
        if self._on_event is not None:
            seconds = self._clock() - started
            label = version.stamp.version
            tell(self._on_event, StageDone(self._name, stage, label, seconds, nbytes))


PASSING = OSError, Closed, Forked, Overloaded, Torn
"""What is no fault of the bytes that were loaded; deadlines are among the first."""


def lasting(error: BaseException) -> bool:
    """Say whether a failure is the fault of what was loaded, and not of what the system lacked."""
    return not any(isinstance(e, PASSING) or is_out_of_memory(e) for e in causes(error))


def forget(error: BaseException) -> None:
    """Let go of the models that the frames of an error hold: it may be kept for long."""
    for each in causes(error):
        traceback.clear_frames(each.__traceback__)


def _on_threads(call: Callable[[Any], Any], asked: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return how a model is called on threads, where nobody would await a coroutine."""

    def refuse(_: Any) -> Any:
        raise TypeError(
            f"{name_of(asked)!r} is an `async def`, and a loader calls its model on threads: await "
            "what get() returns, or pass a plain function"
        )

    for each in (asked, type(asked).__call__):
        if inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each):
            return refuse
    return call


def checks_of(check: Check | Iterable[Check] | None) -> tuple[Check, ...]:
    """Return the checks that are meant by one, several or none."""
    if check is None:
        return ()
    checks = (check,) if callable(check) else tuple(check)
    for each in checks:
        if not callable(each):
            raise TypeError(
                f"check={each!r}: pass functions of (new, old), such as checks.finite()"
            )
    return checks


def predict_of(predict: Any) -> Callable[[Any, Any], Any] | None:
    """Return how a model is to be called, if that was said."""
    if predict is not None and not callable(predict):
        raise TypeError(f"predict={predict!r}: pass a function of (model, x)")
    return cast("Callable[[Any, Any], Any] | None", predict)


def _is_no(answer: object) -> bool:
    """Say whether a check returned False, Python's or NumPy's, and not nothing or a number."""
    return isinstance(answer, bool | np.bool_) and not answer
