"""Try many schedules of async code in virtual time, each named by its seed.

    explore(main, range(1000))    # main: a coroutine function; an error names its seed
    run(main, seed=17)            # that schedule again

**Time** is virtual: when nothing is ready it jumps to the next timer, so an hour costs nothing and
``clock=loop.time`` keeps the code under test in step. A step takes no time, or with ``pace=`` a
random time below that, which lets timers fire in the middle of work.

**Order.** One callback runs at a time, drawn from those that are ready. asyncio promises that
callbacks run in the order of ``call_soon``, so these keep it: plain ones among themselves, and on
one future its callbacks and the tasks that wait for it. It promises no order between tasks, nor
between a task and callbacks it does not wait for, nor of timers of one instant: these are what
is shuffled. A task may be overtaken any number of times, so ``sleep(0)`` settles nothing;
``sleep(1)`` returns when all else is idle.

**The same seed, the same schedule**: tasks and futures hash by number, as asyncio iterates over
sets of them, and garbage is collected between runs. Threads are beyond any seed.

**Threads** may post results by ``call_soon_threadsafe``. Time stands still and nothing counts as
stuck inside ``loop.external()``, or from ``loop.hold()`` to ``loop.release()``, or while
``run_in_executor`` works.

**Errors**: Deadlock when nobody can go on, Unseen for errors that would only have been logged.
"""

import asyncio
import contextlib
import gc
import heapq
import math
import random
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
Main = Callable[[], Coroutine[Any, Any, T]]


class Deadlock(AssertionError):
    """Nobody can go on; ``tasks`` are those that wait."""

    def __init__(self, reason: str, loop: "VirtualLoop") -> None:
        self.seed = loop.seed
        self.tasks = loop.pending()
        waiting = "".join(f"\n  {task!r}" for task in self.tasks)
        super().__init__(f"{reason} (seed {self.seed}); pending tasks:{waiting or ' none'}")


class Unseen(AssertionError):
    """Errors that nobody was told of."""


class _Task(asyncio.Task[Any]):
    def __init__(self, number: int, *args: Any, **options: Any) -> None:
        self.number = number
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self.number


class _Future(asyncio.Future[Any]):
    def __init__(self, number: int, loop: "VirtualLoop") -> None:
        self.number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without sockets, whose clock and schedule are the test's.

    ``patience`` is how many real seconds outside work may take; ``max_steps`` ends a livelock.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool

    def __init__(
        self, seed: int = 0, *, pace: float = 0.0, max_steps: int = 100_000, patience: float = 10.0
    ) -> None:
        super().__init__()
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311 - a schedule, no secret
        self.steps = 0
        self.problems: list[tuple[str, BaseException | None]] = []
        self._pace = pace
        self._max_steps = max_steps
        self._patience = patience
        self._now = 0.0
        self._made: list[Any] = []
        self._outside = 0
        self._lock = threading.Lock()
        self._awake = threading.Event()

    def time(self) -> float:
        return self._now

    def pending(self) -> list[asyncio.Task[Any]]:
        """Return the tasks that are not done, the oldest first."""
        return [made for made in self._made if isinstance(made, asyncio.Task) and not made.done()]

    def hold(self) -> None:
        """Count one more piece of outside work; any thread may."""
        with self._lock:
            self._outside += 1

    def release(self) -> None:
        """Count one less, after its result was posted; any thread may."""
        with self._lock:
            self._outside -= 1
        self._awake.set()

    @contextlib.contextmanager
    def external(self) -> Iterator[None]:
        """Wait for threads: ``with loop.external(): await answer_of_a_thread``."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    def create_task(self, coro: Any, *, name: Any = None, **options: Any) -> asyncio.Task[Any]:
        number = len(self._made)
        if self.get_task_factory() is None:
            self._check_closed()
            name = name or f"task {number}"  # asyncio would count on from the run before
            task = _Task(number, coro, loop=self, name=name, **options)
        else:
            task = super().create_task(coro, name=name, **options)
        self._made.append(task)
        return task

    def create_future(self) -> asyncio.Future[Any]:
        future = _Future(len(self._made), self)
        self._made.append(future)
        return future

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        self.hold()
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(lambda _: self.release())
        return future

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.problems.append((f"{context['message']}: {error!r}", error))

    def finish(self) -> list[tuple[str, BaseException | None]]:
        """Cancel what is left, close, and return what went wrong unseen."""
        self.steps = 0
        left = self.pending()
        for task in left:
            task.cancel()
        try:
            if left:
                self.run_until_complete(asyncio.wait(left))
            if self._asyncgens:
                self.run_until_complete(self.shutdown_asyncgens())
            if self._default_executor is not None:
                with self.external():
                    self.run_until_complete(self.shutdown_default_executor())
        except Deadlock as error:
            self.problems.append((f"after cancelling all tasks: {error}", error))
        else:
            self.problems += [(f"never ended: {task!r}", None) for task in self.pending()]
        for made in self._made:
            if made.done() and made._log_traceback:
                self.problems.append((f"never retrieved: {made!r}", made.exception()))
        self._made.clear()
        self.close()
        return self.problems

    def _write_to_self(self) -> None:
        self._awake.set()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        if self._closed or self._debug:
            return super().call_soon(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def _run_once(self) -> None:
        """Run until somebody stops the loop: a call a step would be the dearest part of it."""
        ready, timers = self._ready, self._scheduled
        while not self._stopping:
            self.steps += 1
            if self.steps > self._max_steps:
                raise Deadlock(f"still busy at {self._now} s after {self._max_steps} steps", self)
            if self._pace:
                self._now += self.random.random() * self._pace
            if timers and timers[0]._when <= self._now:
                self._ring()
            if not ready:
                self._idle()
                continue
            handle = self._draw(len(ready)) if len(ready) > 1 else ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _ring(self) -> None:
        """Make ready the timers that are due."""
        due = []
        timers = self._scheduled
        while timers and (timers[0]._when <= self._now or timers[0]._cancelled):
            timer = heapq.heappop(timers)
            timer._scheduled = False
            if not timer._cancelled:
                due.append(timer)
        if len(due) > 1:
            due.sort(key=lambda timer: (timer._when, self.random.random()))
        self._ready.extend(due)

    def _idle(self) -> None:
        """Wait for outside work, else jump to the next timer, until something is ready."""
        timers = self._scheduled
        while not self._stopping:
            if timers:
                self._ring()
            if self._outside:
                self._awake.clear()
            outside = self._outside  # before _ready: whoever releases has posted
            if self._ready:
                return
            if outside:
                if not self._awake.wait(self._patience):
                    raise Deadlock(f"no outside work ended for {self._patience} s", self)
            elif timers and timers[0]._when < math.inf:
                self._now = max(self._now, timers[0]._when)
            else:
                raise Deadlock(f"nothing can go on at {self._now} s", self)

    def _draw(self, among: int) -> asyncio.Handle:
        """Take one ready callback at random, or the first that must run before it."""
        ready = self._ready
        drawn = int(self.random.random() * among)
        handle = ready[drawn]
        if drawn:
            task, future = _ties(handle)
            for i in range(drawn - 1, -1, -1):
                other_task, other_future = _ties(ready[i])
                if other_task is task or (future is not None and other_future is future):
                    drawn, handle, task, future = i, ready[i], other_task, other_future
        del ready[drawn]
        return handle


def _ties(handle: asyncio.Handle) -> tuple[Any, Any]:
    """Return the task of which a callback is a step, and the future that called it, if any."""
    callback, args = handle._callback, handle._args
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task) or getattr(callback, "__name__", "") == "cancel":
        task = None
    return task, args[0] if args and isinstance(args[0], asyncio.Future) else None


def here() -> VirtualLoop:
    """Return the virtual loop that runs this."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def run(main: Main[T], *, seed: int = 0, **options: Any) -> T:
    """Run one schedule to its end and return what ``main()`` returns.

    What main left behind is cancelled as ``asyncio.run`` does. Raises Deadlock, or Unseen for
    errors that nobody was told of. Options are those of VirtualLoop.
    """
    loop = VirtualLoop(seed, **options)
    with _no_garbage_collection():
        try:
            result = loop.run_until_complete(main())
        except BaseException as error:
            for problem, _ in loop.finish():
                error.add_note(problem)
            raise
        problems = loop.finish()
    if problems:
        text = "\n".join(problem for problem, _ in problems)
        raise Unseen(f"seed {seed}: {text}") from problems[0][1]
    return result


def explore(main: Main[Any], seeds: Iterable[int], **options: Any) -> None:
    """Run one schedule a seed; an error gets a note that names its seed."""
    for seed in seeds:
        try:
            run(main, seed=seed, **options)
        except BaseException as error:
            given = "".join(f", {name}={value!r}" for name, value in options.items())
            error.add_note(f"found by seed {seed}; run(main, seed={seed}{given}) shows it again")
            raise


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep finalizers from running at a moment that no seed chooses."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
