"""The work behind a loader: who waits for the first load, and how versions come and go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Any, final

from modelserve.errors import Forked, ModelLoadError, own
from modelserve.events import Event, Hook, Loaded, LoadFailed, Retired, RolledBack, tell
from modelserve.loader._care import Care
from modelserve.loader._make import Maker, Shunned, forget, lasting
from modelserve.loader._placing import Placing
from modelserve.loader._scheduler import scheduler
from modelserve.loader._shelf import Shelf
from modelserve.loader._source import Source, Torn, identity_of
from modelserve.loader._version import Version
from modelserve.predictor import PartHealth, Sink, closed, deliver, on_fork

if TYPE_CHECKING:
    from modelserve.loader._forms import Warmup
    from modelserve.loader._rules import ReloadRule
    from modelserve.predictor import Life
    from modelserve.typing import Clock


@final
class Core:
    """All of a loader but its face. It does not know the loader, so neither outlives the other."""

    def __init__(  # noqa: PLR0913 - internal
        self,
        name: str,
        life: Life,
        source: Source,
        maker: Maker,
        care: Care,
        *,
        persists: bool,
        clock: Clock,
        on_event: Hook | None,
    ) -> None:
        self.name = name
        self.shelf = Shelf()
        self.loads = self.failures = 0
        self.load_seconds = 0.0
        self._rollbacks = 0
        self._life = life
        self._source = source
        self._maker = maker
        self._care = care
        self._persists = persists
        """Whether a first load that failed is tried again."""
        self._clock = clock
        self._on_event = on_event
        self._error: str | None = None
        """Why the last load failed; the error itself would hold what it failed on."""
        self._forked: str | None = None
        self._arm()
        on_fork(self)

    @classmethod
    def of(  # noqa: PLR0913, PLR0917 - internal
        cls,
        name: str,
        life: Life,
        source: Source,
        rule: ReloadRule | None,
        warmup: Warmup,
        options: Mapping[str, Any],
    ) -> Core:
        """Make the work behind a loader of what that was told."""
        heard = {"clock": options["clock"], "on_event": options["on_event"]}
        maker = Maker(
            name,
            source,
            Placing(name, options["device"]),
            predict=options["predict"],
            threads=options["threads"],
            warmup=warmup,
            checks=options["check"],
            close=options["close"],
            **heard,
        )
        care = Care(rule, options["max_stale"], options["clock"])
        persists = options["mode"] == "background"
        return cls(name, life, source, maker, care, persists=persists, **heard)

    def _arm(self) -> None:
        self._lock = threading.Lock()
        self._changing = threading.RLock()
        self._waiting: list[Sink] | None = None
        self._loading_in: int | None = None

    def after_fork(self) -> None:
        """Keep a model that lives on in the child; load others anew at the first call."""
        self._arm()
        self._care.after_fork()
        if self.shelf.after_fork() == "refuse":
            self._forked = (
                f"{self.name!r} holds a model on a GPU that was made before the fork: load it "
                "in the child, with mode='lazy' or a start method of 'spawn'"
            )

    def begin(self, sink: Sink | None) -> None:
        """Join the load in progress, or begin one; nobody's own call, so nobody can abort it."""
        self._check_door()
        with self._lock:
            now = self.shelf.now
            if now is None and self.shelf.aside is not None:
                raise self._stale_error()
            first = now is None and self._waiting is None
            if now is None:
                self._waiting = self._waiting or []
                if sink is not None:
                    self._waiting.append(sink)
        if now is not None and sink is not None:
            sink.settle(now, None)
        if first:
            try:
                self._on_thread(self._load_first)
            except RuntimeError as error:  # the system has no thread left
                self._land(None, self._failed(error, None, 0.0))

    def reload(self) -> Version:
        """Load what the source holds, even if it was shunned."""
        self._check_door()
        with self._changing:
            return self._load()

    def rollback(self) -> Version:
        """Serve the version before, and shun that of now; a load in progress will not be served."""
        with self._lock:
            if self._life.closed:
                raise closed(self.name)
            before, bad = self.shelf.before, self.shelf.latest()
            if before is None or bad is None:
                raise ModelLoadError(f"{self.name!r} has no version to roll back to")
            self._rollbacks += 1
            self._maker.shun(bad.digest)
            self._care.rolled_back()
            self._error = None
            retired = self.shelf.back(before, self._clock())
        self._tell(RolledBack(self.name, before.stamp.version))
        self._tell_retired(retired)
        self._look_after()
        return before

    def stop(self) -> None:
        """Let all versions go; calls in flight keep theirs until they end."""
        with self._lock:
            scheduler.drop(self.tick)
            self._error = None
            old = self.shelf.clear(self._clock())
        self._tell_retired(old)

    def tick(self) -> float | None:
        """Look after the model in the background; return in how many seconds to do so again."""
        if self._life.closed or not self._is_cared_for():
            return None
        if self._care.stale():
            self._expire()
        if self._care.due():
            try:
                if self._source.far:
                    self._on_thread(self._look)
                elif self._care.wants(self._source):
                    self._on_thread(self._load_again)
            except RuntimeError as error:  # the system has no thread left
                self._care.over()
                self._failed(error, None, 0.0)
        return self._care.wait()

    def held(self) -> list[str]:
        """Tell who holds versions that were let go a while ago."""
        return self.shelf.held(self._clock())

    def file(self) -> tuple[str, int | None] | None:
        """Return the suffix and the bytes of what would be read, if it is a file."""
        return self._source.file()

    def loads_here(self) -> bool:
        """Say whether this thread is loading."""
        return self._loading_in == threading.get_ident()

    def health(self) -> PartHealth:
        """Whether a version serves, loads, or could not be loaded."""
        now, error = self.shelf.now, self._error
        if self._life.closed:
            return PartHealth("closed")
        if self._forked is not None:
            return PartHealth("failed", self._forked)
        if now is not None:
            return PartHealth("degraded", error) if error else PartHealth("ready", self._holders())
        if self.shelf.aside is not None:
            return PartHealth("failed", str(self._stale_error()))
        if self._waiting is not None:
            return PartHealth("loading")
        return PartHealth("failed", error) if error else PartHealth("cold")

    def _holders(self) -> str:
        return "; ".join(self.held())

    def _check_door(self) -> None:
        """Refuse to load where that cannot end."""
        if self._life.closed:
            raise closed(self.name)
        if self._forked is not None:
            raise Forked(self._forked)
        if self.loads_here():
            raise ModelLoadError(f"{self.name!r} asks for itself while it loads")

    def _stale_error(self) -> ModelLoadError:
        return ModelLoadError(
            f"{self.name!r} has no model young enough: reloads failed for more than "
            f"max_stale={self._care.max_stale} s "
            f"({self._error or 'its source changes again and again, or does not answer'})"
        )

    def _on_thread(self, job: Callable[[], None]) -> None:
        thread = threading.Thread(target=job, name=f"modelserve-load-{self.name}", daemon=True)
        Context().run(thread.start)

    def _load_first(self) -> None:
        try:
            with self._changing:
                version = self.shelf.now or self._load()
        except BaseException as error:  # noqa: BLE001 - handed to everybody who waits
            self._land(None, error)
        else:
            self._land(version, None)

    def _land(self, version: Version | None, error: BaseException | None) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting or [], None
        deliver((sink, version, None if error is None else own(error)) for sink in waiting)

    def _look(self) -> None:
        """Look at what may not answer on a thread that nobody else needs."""
        if self._care.wants(self._source):
            self._load_again()
        else:
            self._look_after()

    def _load_again(self) -> None:
        try:
            with self._changing:
                if self._care.still_wants():
                    self._load(unasked=True)
        except BaseException:  # noqa: BLE001, S110 - whoever listens was told
            pass
        finally:
            self._care.over()
            self._look_after()

    def _load(self, *, unasked: bool = False) -> Version:
        """Load, warm, check and swap; the caller holds ``_changing``.

        It is nobody's own: no caller's deadline ends it, and its calls are counted nowhere.
        """
        self._loading_in = threading.get_ident()
        try:
            return Context().run(self._renew, self._clock(), unasked=unasked)
        finally:
            self._loading_in = None
            self._look_after()

    def _renew(self, started: float, *, unasked: bool) -> Version:
        tried, rollbacks = identity_of(self._source), self._rollbacks
        try:
            identity, made = self._maker.make(self.shelf.latest(), unasked=unasked)
        except BaseException as error:  # an exit too, which would end those who wait
            if isinstance(error, KeyboardInterrupt):
                raise
            if unasked and isinstance(error, Shunned):
                self._care.shun(error.identity)
                raise
            if unasked and isinstance(error, Torn):
                self._care.unsettled()
                raise
            failure = self._failed(error, tried, self._clock() - started)
            raise failure from failure.__cause__
        return self._serve(identity, made, started, rollbacks)

    def _serve(
        self, identity: object, made: Version | None, started: float, rollbacks: int
    ) -> Version:
        """Hand out what was made, None if that is done already."""
        swapping, retired = self._clock(), None
        with self._lock:
            version = made or self.shelf.latest()
            if version is None or self._life.closed:
                raise closed(self.name)
            if rollbacks != self._rollbacks:
                self._care.unsettled()
                raise ModelLoadError(
                    f"{self.name!r} was rolled back while it was loaded: reload it once more"
                )
            self._maker.forgive()
            self._care.loaded(identity)
            self._error = None
            if version is self.shelf.now:
                return version
            retired = self.shelf.put(version, self._clock(), first=not self.loads)
            self.loads += 1
        self._maker.staged("swap", version, swapping)
        self.load_seconds = self._clock() - started
        self._tell(Loaded(self.name, version.stamp.version, self.load_seconds, version.device()))
        self._tell_retired(retired)
        return version

    def _failed(self, error: BaseException, tried: object, seconds: float) -> ModelLoadError:
        """Count and tell a failure, and return it as an error that shows no more than it may."""
        self.failures += 1
        forget(error)
        if isinstance(error, ModelLoadError):
            failure = error
        else:
            failure = ModelLoadError(
                f"{self.name!r} could not be loaded: {type(error).__name__} was raised on the way"
            )
            failure.__cause__ = error
        self._error = str(failure)
        self._care.failed(tried, shun=tried is not None and lasting(error))
        self._tell(LoadFailed(self.name, failure, seconds))
        return failure

    def _expire(self) -> None:
        with self._lock:
            old = self.shelf.expire() if self._care.stale() else None
        self._tell_retired(old)

    def _look_after(self) -> None:
        """Have the background look after the model when that is due, if ever."""
        with self._lock:
            seconds = self._care.wait()
            if seconds is not None and not self._life.closed and self._is_cared_for():
                scheduler.at(self.tick, seconds)

    def _is_cared_for(self) -> bool:
        """Say whether there is a model to be renewed, or to be tried for again."""
        if self._forked is not None:
            return False
        if self.shelf.latest() is None:
            return self._persists
        return self._care.has_rule

    def _tell_retired(self, old: Version | None) -> None:
        if old is not None:
            self._tell(Retired(self.name, old.stamp.version))

    def _tell(self, event: Event) -> None:
        if self._on_event is not None:
            tell(self._on_event, event)
