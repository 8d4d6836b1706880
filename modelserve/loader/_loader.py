"""ModelLoader itself: loading once, swapping at once."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast, final

from modelserve import formats
from modelserve.errors import Forked, ModelLoadError, from_model, own
from modelserve.events import Event, Hook, Loaded, LoadFailed, Retired, tell
from modelserve.loader._source import open_source
from modelserve.loader._version import LoaderStats, Stamps, Version
from modelserve.predictor import (
    PartHealth,
    Primitive,
    Sink,
    Spec,
    ThreadSink,
    aio,
    deliver,
    hop,
    on_fork,
    running_loop,
)
from modelserve.request import Stamp, current
from modelserve.typing import In, Out

if TYPE_CHECKING:
    from modelserve.typing import Clock


@final
class ModelLoader(Primitive[In, Out]):
    """A model, loaded once for everybody, that can be exchanged while it serves.

    ``source`` is the path of a model file, a torch module, or a function of no arguments that
    returns a model. As a predictor the loader takes what the model takes, usually a batch: ONNX
    models take and give arrays (dicts of arrays by name where there are several), torch modules
    run in evaluation and inference mode, estimators ``predict``, functions are called.
    ``predict(model, x)`` says how anything else is called. ``factory`` makes the torch module that
    takes a file's weights, ``sha256`` pins a file, which ``allow_pickle`` then lets run code.

    ``mode`` "lazy" touches nothing before the first use, "eager" loads at once and raises, and
    "background" loads on a thread of its own while the service starts. However many callers come
    first, threads and tasks together, one load serves them all.

    A file's version is the beginning of its SHA-256 digest, a function's a number of this process,
    or ``version``. ``warmup`` holds inputs of the loader that a version answers before it serves.

    Raises ModelLoadError where it cannot be loaded: at construction, or at the calls that need it.

    >>> import modelserve as ms
    >>> loader = ms.ModelLoader(lambda: str.upper, name="shout")
    >>> loader("a"), loader.version
    ('A', '1')
    >>> loader.reload()
    '2'
    """

    kind = "ModelLoader"
    level = "batch"

    def __init__(  # noqa: PLR0913 - one word each, all of them of the field
        self,
        source: str | os.PathLike[str] | Callable[[], Any],
        *,
        predict: Callable[[Any, In], Out] | None = None,
        factory: Callable[[], Any] | None = None,
        mode: Literal["lazy", "eager", "background"] = "lazy",
        sha256: str | None = None,
        allow_pickle: bool = False,
        version: str | None = None,
        warmup: Iterable[In] | None = None,
        name: str | None = None,
        clock: Clock = time.monotonic,
        on_event: Hook | None = None,
    ) -> None:
        if mode not in {"lazy", "eager", "background"}:
            raise ValueError(f"mode={mode!r}: pass 'lazy', 'eager' or 'background'")
        how: dict[str, Any] = {"factory": factory, "sha256": sha256, "allow_pickle": allow_pickle}
        self._source, default_name = open_source(source, version, **how)
        self._predict = predict
        self._mode = mode
        self._warmup = () if warmup is None else tuple(warmup)
        self._clock = clock
        self._on_event = on_event
        options = {
            "predict": predict,
            "mode": mode,
            **how,
            "version": version,
            "warmup": self._warmup,
            "name": name,
            "clock": clock,
            "on_event": on_event,
        }
        super().__init__(name or default_name, {}, Spec(ModelLoader, (source,), options))
        self._now: Version | None = None
        self._before: Version | None = None
        self._stamps = Stamps(self.name)
        self._numbers = itertools.count(1)
        self._loads = self._failures = 0
        self._load_seconds = 0.0
        self._error: BaseException | None = None
        self._forked: str | None = None
        self._arm()
        on_fork(self)
        if mode != "lazy":
            self.start()

    def _arm(self) -> None:
        self._lock = threading.Lock()
        self._changing = threading.RLock()
        self._waiting: list[Sink] | None = None
        self._loading_in: int | None = None

    def after_fork(self) -> None:
        """Keep a model that lives on in the child; load others anew at the first call."""
        self._arm()
        now, before = self._now, self._before
        if before is not None and before.after_fork() != "keep":
            self._before = None
        if now is not None and (fate := now.after_fork()) != "keep":
            self._now = None
            now.stamp.retire()
            if fate == "refuse":
                self._forked = (
                    f"{self.name!r} holds a model on a GPU that was made before the fork: load it "
                    "in the child, with mode='lazy' or a start method of 'spawn'"
                )

    @property
    def stats(self) -> LoaderStats:
        """A snapshot of what happened so far."""
        blocked = self.blocked_loop.read()
        return LoaderStats(self.version, self._loads, self._failures, self._load_seconds, blocked)

    @property
    def version(self) -> str | None:
        """The version that is handed out now; None before the first load."""
        stamp = self.stamp()
        return None if stamp is None else stamp.version

    def __call__(self, x: In, /) -> Out:
        """Answer with the version of now."""
        return self._answer(self._now or self._first(), x)

    def _answer(self, now: Version, x: In) -> Out:
        scope = current()
        if scope is not None:
            scope.check(self.name)
            scope.trail.append(now.stamp)
        try:
            y: Out = now.call(x)
        except Exception as error:
            failure = from_model(error, repr(self.name))
            if failure is error:
                raise
            raise failure from error
        return y

    async def acall(self, x: In, /) -> Out:
        """Answer on a thread of the library's own, with the version of now."""
        scope = current()
        now = self._now or await self._afirst()
        sink = aio.sink()
        hop(sink, lambda x: self._answer(now, x), x, self.name, None)
        return cast("Out", await aio.wait(sink.future, scope, self.name))

    def get(self) -> Any:
        """Return the model itself, loading it at the first use.

        >>> import modelserve as ms
        >>> ms.ModelLoader(lambda: {"bias": 1.0}, predict=lambda m, x: x + m["bias"]).get()
        {'bias': 1.0}
        """
        return (self._now or self._first()).handed()

    async def aget(self) -> Any:
        """Return the model itself, without blocking the event loop on a first load."""
        return (self._now or await self._afirst()).handed()

    def reload(self) -> str:
        """Load again, and serve what was loaded; return its version.

        The new version is loaded and warmed before one atomic swap; requests in flight keep
        theirs. If it is what serves already, nothing changes. If it fails, the last good version
        serves on and ModelLoadError is raised.
        """
        self._check_door()
        with self._changing:
            return self._load().stamp.version

    def rollback(self) -> str:
        """Serve the version before this one again; return it. Raises ModelLoadError without one.

        >>> import modelserve as ms
        >>> loader = ms.ModelLoader(lambda: str.upper)
        >>> loader.reload(), loader.reload(), loader.rollback()
        ('1', '2', '1')
        """
        with self._changing:
            before = self._before
            if self.life.closed:
                raise self.closed_error()
            if before is None:
                raise ModelLoadError(f"{self.name!r} has no version to roll back to")
            self._tell_retired(self._swap(before))
            return before.stamp.version

    def summary(self) -> str:
        """Version and counts in a few words."""
        stats = self.stats
        served = "not loaded" if stats.version is None else f"version {stats.version}"
        failed = f", {stats.failures:,} failed" if stats.failures else ""
        return f"{served}, {stats.loads:,} loads{failed}"

    def health(self) -> PartHealth:
        """Whether a version serves, loads, or could not be loaded."""
        now, error = self._now, self._error
        if self.life.closed:
            return PartHealth("closed")
        if self._forked is not None:
            return PartHealth("failed", self._forked)
        if now is not None:
            return PartHealth("degraded", str(error)) if error else PartHealth("ready")
        if self._waiting is not None:
            return PartHealth("loading")
        return PartHealth("failed", str(error)) if error else PartHealth("cold")

    def stamp(self) -> Stamp | None:
        """The stamp of the version of now."""
        now = self._now
        return None if now is None else now.stamp

    def warm(self, x: In) -> None:
        """Load, and answer once."""
        self(x)

    async def awarm(self, x: In) -> None:
        """Load, and answer once, without blocking the event loop."""
        await self.acall(x)

    def start(self) -> None:
        """Load; in the background mode only begin to."""
        if self._mode == "background":
            self._begin(None)
        else:
            self.get()

    async def astart(self) -> None:
        """Load without blocking the event loop; in the background mode only begin to."""
        if self._mode == "background":
            self._begin(None)
        else:
            await self.aget()

    def stop(self, drain: bool, timeout: float | None) -> None:  # noqa: ARG002, FBT001 - internal
        """Let the model go; calls in flight keep it until they end."""
        with self._lock:
            old, self._now, self._before = self._now, None, None
            if old is not None:
                old.stamp.retire()
        self._tell_retired(old)

    def _first(self) -> Version:
        """Wait for the load that the first caller begins."""
        if running_loop() is not None:
            self.blocked_loop.add()
        sink = ThreadSink()
        self._begin(sink)
        return cast("Version", sink.wait(current(), self.name))

    async def _afirst(self) -> Version:
        sink = aio.sink()
        self._begin(sink)
        return cast("Version", await aio.wait(sink.future, current(), self.name))

    def _check_door(self) -> None:
        """Refuse to load where that cannot end."""
        if self.life.closed:
            raise self.closed_error()
        if self._forked is not None:
            raise Forked(self._forked)
        if self._loading_in == threading.get_ident():
            raise ModelLoadError(f"{self.name!r} asks for itself while it loads")

    def _begin(self, sink: Sink | None) -> None:
        """Join the load in progress, or begin one; nobody's own call, so nobody can abort it."""
        self._check_door()
        with self._lock:
            now = self._now
            first = now is None and self._waiting is None
            if now is None:
                self._waiting = self._waiting or []
                if sink is not None:
                    self._waiting.append(sink)
        if now is not None and sink is not None:
            sink.settle(now, None)
        if first:
            thread = threading.Thread(
                target=self._load_first, name=f"modelserve-load-{self.name}", daemon=True
            )
            try:
                Context().run(thread.start)
            except RuntimeError as error:  # the system has no thread left
                self._land(None, self._failed(error, 0.0))

    def _load_first(self) -> None:
        try:
            with self._changing:
                version = self._now or self._load()
        except BaseException as error:  # noqa: BLE001 - handed to everybody who waits
            self._land(None, error)
        else:
            self._land(version, None)

    def _land(self, version: Version | None, error: BaseException | None) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting or [], None
        deliver((sink, version, None if error is None else own(error)) for sink in waiting)

    def _load(self) -> Version:
        """Load, warm and swap; the caller holds ``_changing``."""
        self._loading_in = threading.get_ident()
        try:
            return self._renew(self._clock())
        finally:
            self._loading_in = None

    def _renew(self, started: float) -> Version:
        try:
            version = self._fetch()
        except BaseException as error:  # an exit too, which would end those who wait
            if isinstance(error, KeyboardInterrupt):
                raise
            failure = self._failed(error, self._clock() - started)
            raise failure from failure.__cause__
        self._error = None
        if version is not self._now:
            retired = self._swap(version)
            self._loads += 1
            self._load_seconds = self._clock() - started
            self._tell(Loaded(self.name, version.stamp.version, self._load_seconds))
            self._tell_retired(retired)
        return version

    def _fetch(self) -> Version:
        now = self._now
        artefact = self._source(None if now is None else now.stamp.version)
        if artefact is None:
            return cast("Version", now)
        model, predict = artefact.model, self._predict
        known = formats.runtime(model)
        call = formats.caller(model, known) if predict is None else partial(predict, model)
        for x in self._warmup:
            call(x)
        label = artefact.version or str(next(self._numbers))
        return Version(model, call, self._stamps.of(label), known)

    def _failed(self, error: BaseException, seconds: float) -> ModelLoadError:
        """Count and tell a failure, and return it as an error that shows no more than it may."""
        self._failures += 1
        if isinstance(error, ModelLoadError):
            failure = error
        else:
            failure = ModelLoadError(
                f"{self.name!r} could not be loaded: {type(error).__name__} was raised on the way"
            )
            failure.__cause__ = error
        self._error = failure
        self._tell(LoadFailed(self.name, failure, seconds))
        return failure

    def _swap(self, new: Version) -> Version | None:
        """Hand out another version; only then is the old one retired, and returned."""
        with self._lock:
            if self.life.closed:
                raise self.closed_error()
            old = self._now
            new.stamp.revive(first=not self._loads)
            self._now, self._before = new, old
            if old is None or old.stamp is new.stamp:
                return None
            old.stamp.retire()
        return old

    def _tell_retired(self, old: Version | None) -> None:
        if old is not None:
            self._tell(Retired(self.name, old.stamp.version))

    def _tell(self, event: Event) -> None:
        if self._on_event is not None:
            tell(self._on_event, event)
