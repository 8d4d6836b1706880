"""ModelLoader itself: loading once, swapping at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast, final

from modelserve.errors import from_model
from modelserve.events import Hook
from modelserve.loader._core import Core
from modelserve.loader._forms import Warmup
from modelserve.loader._how import How
from modelserve.loader._lease import Lease
from modelserve.loader._make import checks_of, predict_of
from modelserve.loader._registry import Alias
from modelserve.loader._rules import ReloadRule, check_rule, rule_of
from modelserve.loader._source import open_source
from modelserve.loader._version import LoaderStats, Version
from modelserve.loader.checks import Check
from modelserve.predictor import PartHealth, Primitive, Spec, ThreadSink, aio, hop, running_loop
from modelserve.request import Stamp, current
from modelserve.typing import In, Out

if TYPE_CHECKING:
    from modelserve.placement import DevicePlacer
    from modelserve.typing import Clock


@final
class ModelLoader(Primitive[In, Out]):
    """A model, loaded once for everybody, that can be exchanged while it serves.

    ``source`` is the path of a model file, a folder of versions (``models/ranker/3/``), an alias of
    a :class:`Registry`, a torch module, or a function of no arguments that returns a model. As a
    predictor the loader takes what
    the model takes, usually a batch: ONNX models take and give arrays (dicts of arrays by name
    where there are several), torch modules run in evaluation and inference mode, estimators
    ``predict``, functions are called. ``predict(model, x)`` says how anything else is called.
    ``factory`` makes the torch module that takes a file's weights, ``sha256`` pins a file, which
    ``allow_pickle`` then lets run code.

    ``mode`` "lazy" touches nothing before the first use, "eager" loads at once and raises, and
    "background" loads on a thread of its own while the service starts, again and again if it
    fails. However many callers come first, threads and tasks together, one load serves them all.

    ``device`` is where the model goes: "cpu", "cuda:1", or where a :class:`DevicePlacer` finds room
    for it. By default, "auto", files of torch modules, and of ONNX models where ONNX Runtime can,
    go where such a placer puts them, and what a function returns stays where it was put. What runs
    out of memory while it is loaded or warmed is tried once more after idle models of pools have
    gone from the device, then on the next one, the CPU last; on a named device there alone.

    ``threads`` is how many threads of the CPU one call runs on: of the pool of an ONNX session, its
    own, and of torch's for the calling thread while it calls. A thread that uses torch for the
    first time during such a call keeps that number, as torch hands it on.

    ``reload`` looks for a newer model in the background: each so many seconds, by :class:`Every`,
    or by :class:`OnChange`. A new version is loaded, warmed with ``warmup`` and what the loader was
    warmed with, and passes every ``check(new, old)`` (see :mod:`modelserve.loader.checks`) before
    one atomic swap. What fails is not swapped in; the last good version serves on until, with
    ``max_stale``, so many seconds have passed since it was last known to be the newest.

    A file's version is the beginning of its SHA-256 digest, that of a folder its number, the
    highest or the one given as ``version``; that of a function is a number of this process, or
    ``version``. ``close(model)`` is called once for every model that is let go, when no version, no
    call and no :meth:`lease` holds it. It must not wait for ever: one thread closes the models of
    all loaders, one after the other, and the end of a process waits 10 seconds for it.

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
        source: str | os.PathLike[str] | Alias | Callable[[], Any],
        *,
        predict: Callable[[Any, In], Out] | None = None,
        factory: Callable[[], Any] | None = None,
        mode: Literal["lazy", "eager", "background"] = "lazy",
        device: str | DevicePlacer = "auto",
        threads: int | None = None,
        sha256: str | None = None,
        allow_pickle: bool = False,
        reload: float | ReloadRule | None = None,
        max_stale: float | None = None,
        version: str | None = None,
        warmup: Iterable[In] | None = None,
        check: Check | Iterable[Check] | None = None,
        close: Callable[[Any], object] | None = None,
        name: str | None = None,
        clock: Clock = time.monotonic,
        on_event: Hook | None = None,
    ) -> None:
        if mode not in {"lazy", "eager", "background"}:
            raise ValueError(f"mode={mode!r}: pass 'lazy', 'eager' or 'background'")
        if threads is not None and threads < 1:
            raise ValueError(f"threads={threads!r}: pass 1 or more, or leave it out")
        how = How(factory, sha256, allow_pickle, threads)
        opened, rule = open_source(source, version, how), rule_of(reload)
        check_rule(rule, opened, max_stale)
        checks = checks_of(check)
        self._mode = mode
        self._warmup = Warmup(() if warmup is None else warmup)
        options = {
            "predict": predict_of(predict),
            "mode": mode,
            "device": device,
            **how._asdict(),
            "reload": reload,
            "max_stale": max_stale,
            "version": version,
            "warmup": self._warmup.given,
            "check": checks,
            "close": close,
            "name": name,
            "clock": clock,
            "on_event": on_event,
        }
        super().__init__(name or opened.name, {}, Spec(ModelLoader, (source,), options))
        self._core = Core.of(self.name, self.life, opened, rule, self._warmup, options)
        self._shelf = self._core.shelf
        if mode != "lazy":
            self.start()

    @property
    def stats(self) -> LoaderStats:
        """A snapshot of what happened so far."""
        core, blocked = self._core, self.blocked_loop.read()
        now = self._shelf.now
        version, device = (None, None) if now is None else (now.stamp.version, now.device())
        return LoaderStats(version, core.loads, core.failures, core.load_seconds, blocked, device)

    @property
    def version(self) -> str | None:
        """The version that is handed out now; None before the first load."""
        stamp = self.stamp()
        return None if stamp is None else stamp.version

    def __call__(self, x: In, /) -> Out:
        """Answer with the version of now."""
        return self._answer(self._shelf.now or self._first(), x)

    def _answer(self, now: Version, x: In) -> Out:
        call = now.call  # read once: as a method it would be looked up in its class first
        scope = current()
        if scope is not None:
            scope.check(self.name)
            scope.trail.append(now.stamp)
            if scope.warming:
                call = partial(self._warmup.through, call)
        try:
            y: Out = call(x)
        except Exception as error:
            failure = from_model(error, repr(self.name))
            if failure is error:
                raise
            raise failure from error
        return y

    async def acall(self, x: In, /) -> Out:
        """Answer on a thread of the library's own, with the version of now."""
        scope = current()
        now = self._shelf.now or await self._afirst()
        sink = aio.sink()
        hop(sink, lambda x: self._answer(now, x), x, self.name, None)
        return cast("Out", await aio.wait(sink.future, scope, self.name))

    def get(self) -> Any:
        """Return the model itself, loading it at the first use.

        >>> import modelserve as ms
        >>> ms.ModelLoader(lambda: {"bias": 1.0}, predict=lambda m, x: x + m["bias"]).get()
        {'bias': 1.0}
        """
        now = self._shelf.now or self._first()
        scope = current()  # as `Version.handed`, without the price of a call
        if scope is not None:
            scope.trail.append(now.stamp)
        return now.model

    async def aget(self) -> Any:
        """Return the model itself, without blocking the event loop on a first load."""
        return (self._shelf.now or await self._afirst()).handed()

    def lease(self) -> Lease:
        """Return what holds the model of now in a ``with`` or ``async with`` block.

        Whatever is swapped in meanwhile, it is not given to ``close=`` before the block ends.

        >>> import modelserve as ms
        >>> loader = ms.ModelLoader(lambda: str.upper)
        >>> with loader.lease() as model:
        ...     model("a")
        'A'
        """
        return Lease(lambda: self._shelf.now or self._first(), self._aserving)

    async def _aserving(self) -> Version:
        return self._shelf.now or await self._afirst()

    def reload(self) -> str:
        """Load again, and serve what was loaded; return its version.

        The new version is loaded, warmed and checked before one atomic swap; requests in flight
        keep theirs. If it is what serves already, nothing changes. If it fails, the last good
        version serves on and ModelLoadError is raised. What failed before or was rolled back is
        tried all the same.
        """
        return self._core.reload().stamp.version

    def rollback(self) -> str:
        """Serve the version before this one again; return it. Raises ModelLoadError without one.

        One is kept, so this goes back once, and not back and forth. What was rolled back is not
        loaded again in the background until the source holds something else: a function, which
        cannot tell, is not called again. ``reload()`` loads what is there in any case.

        >>> import modelserve as ms
        >>> loader = ms.ModelLoader(lambda: str.upper)
        >>> loader.reload(), loader.reload(), loader.rollback()
        ('1', '2', '1')
        """
        return self._core.rollback().stamp.version

    def summary(self) -> str:
        """Version, counts and who holds older versions, in a few words."""
        stats = self.stats
        where = f" on {stats.device}" if stats.device else ""
        served = "not loaded" if stats.version is None else f"version {stats.version}{where}"
        failed = f", {stats.failures:,} failed" if stats.failures else ""
        held = "".join(f", {one}" for one in self._core.held())
        return f"{served}, {stats.loads:,} loads{failed}{held}"

    def health(self) -> PartHealth:
        """Whether a version serves, loads, or could not be loaded."""
        return self._core.health()

    def file(self) -> tuple[str, int | None] | None:
        """The suffix of the file that would be loaded now and its bytes, None of a function.

        Files beside it that hold its weights count, and of a folder of versions the one to serve.
        The bytes are None where they are not told. Nothing is read.

        >>> import modelserve as ms
        >>> ms.ModelLoader("models/ranker.onnx").file()
        ('.onnx', None)
        """
        return self._core.file()

    def loads_here(self) -> bool:
        """Whether this very thread is loading it."""
        return self._core.loads_here()

    def stamp(self) -> Stamp | None:
        """The stamp of the version of now."""
        now = self._shelf.now
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
            self._core.begin(None)
        else:
            self.get()

    async def astart(self) -> None:
        """Load without blocking the event loop; in the background mode only begin to."""
        if self._mode == "background":
            self._core.begin(None)
        else:
            await self.aget()

    def stop(self, drain: bool, timeout: float | None) -> None:  # noqa: ARG002, FBT001 - internal
        """Let the model go; calls in flight keep it until they end."""
        self._core.stop()

    def _first(self) -> Version:
        """Wait for the load that the first caller begins."""
        if running_loop() is not None:
            self.blocked_loop.add()
        sink = ThreadSink()
        self._core.begin(sink)
        return cast("Version", sink.wait(current(), self.name))

    async def _afirst(self) -> Version:
        sink = aio.sink()
        self._core.begin(sink)
        return cast("Version", await aio.wait(sink.future, current(), self.name))
