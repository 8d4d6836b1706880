"""Ask a great many times from threads and loops at once, with every misfortune there is.

    python -m tests.storm --requests 200000

Ends with 1 if a call was lost, hung, run twice, answered twice, answered with another's answer or
hurt by another.
"""

import argparse
import asyncio
import contextlib
import faulthandler
import random
import sys
import threading
import time
from collections import Counter
from queue import SimpleQueue

import modelserve as ms

LIMIT = 10.0
"""Seconds after which whatever still waits counts as hung."""
MAX_RUN = 1.0
RESTLESS = 1e-5
"""Seconds after which threads take turns, so that they do so wherever they can."""
CHUNK = 100
THREADS = 16
FATES = ["fine"] * 400 + ["poison", "odd", "short", "disk", "cancels"] + ["slow"] * 20
SPOILS = {"OSError": "disk", "RuntimeError": "cancels", "BadOutput": "short"}
"""Which item may end the calls of its whole batch with which error."""
FACES = ["by_call", "by_map", "by_submit", "by_acall", "by_amap"]
LOCKSTEP = ["by_plain_call"]
"""Where all wait for one batch, nobody comes later by whom one overlooked would be served."""
SERVICES = [
    ("sync", LOCKSTEP, {"max_batch_size": THREADS}),
    ("sync", FACES, {"workers": 2}),
    ("sync", FACES, {"workers": 3, "max_wait": 1e-4, "max_queue_size": 50, "overflow": "wait"}),
    ("async", LOCKSTEP, {"max_batch_size": THREADS}),
    ("async", FACES, {"workers": 3, "max_wait": 1e-4}),
]


class Poison(Exception):
    """What a bad item raises."""


def answer(x):
    return ("answer", x)


class Gates:
    """What slow calls wait for, some hops of a thread, and stuck calls, the end of the storm."""

    def __init__(self):
        self.end = threading.Event()
        self._slow = SimpleQueue()
        self._thread = threading.Thread(target=self._hop, daemon=True)
        self._thread.start()

    def slow(self, open_, hops=30):
        self._slow.put((hops, open_))

    def close(self):
        self.end.set()
        self._slow.put((0, None))
        self._thread.join(LIMIT)

    def _hop(self):
        while True:
            hops, open_ = self._slow.get()
            if hops:
                self._slow.put((hops - 1, open_))
            elif open_ is None:
                return
            else:
                with contextlib.suppress(RuntimeError):  # a loop that has ended
                    open_()


class Run:
    """One call of the model."""

    __slots__ = ("began", "fates", "seconds")

    def __init__(self, fates):
        self.began = time.monotonic()
        self.fates = fates
        self.seconds = None

    def was_long(self):
        seconds = self.seconds or time.monotonic() - self.began
        return seconds > 0.9 * MAX_RUN


class Model:
    """A batch function in which each item has its fate, and a log of who ran with whom."""

    def __init__(self, requests, dice):
        self.fates = dice.choices(FATES, k=requests)
        for x in dice.choices(range(requests), k=max(1, requests // 20_000)):
            self.fates[x] = "stuck"
        self.gates = Gates()
        self.runs = [[] for _ in range(requests)]
        self.served = Counter()
        self.lock = threading.Lock()

    def sync(self, xs):
        run = self._begin(xs)
        if "stuck" in run.fates:
            self.gates.end.wait()
        elif "slow" in run.fates:
            gate = threading.Event()
            self.gates.slow(gate.set)
            gate.wait()
        return self._finish(run, xs)

    async def asynchronous(self, xs):
        run, loop = self._begin(xs), asyncio.get_running_loop()
        if "stuck" in run.fates:
            await loop.create_future()
        elif "slow" in run.fates:
            gate = asyncio.Event()
            self.gates.slow(lambda: loop.call_soon_threadsafe(gate.set))
            await gate.wait()
        return self._finish(run, xs)

    def _begin(self, xs):
        run = Run({self.fates[x] for x in xs})
        for x in xs:
            self.runs[x].append(run)
        return run

    def _finish(self, run, xs):
        run.seconds = time.monotonic() - run.began
        if "poison" in run.fates:
            raise Poison
        if "cancels" in run.fates:
            raise asyncio.CancelledError
        if "disk" in run.fates:
            raise OSError(5, "disk")
        with self.lock:
            self.served.update(xs)
        rows = [Poison() if self.fates[x] == "odd" else answer(x) for x in xs]
        return rows[1:] if "short" in run.fates else rows


class Storm:
    """Callers of every kind, who note how each call ended."""

    def __init__(self, colour, faces, requests, seed=0, **options):
        dice = random.Random(seed)  # noqa: S311 - who fares how is no secret
        self.requests = requests
        self.model = Model(requests, dice)
        predict = self.model.sync if colour == "sync" else self.model.asynchronous
        options = {"max_batch_size": 8, **options}
        self.p = ms.DynamicBatcher(predict, max_run=MAX_RUN, name="storm", **options)
        self.ends = {}
        self.faults = Counter()
        self.lock = threading.Lock()
        chunks = [range(at, min(at + CHUNK, requests)) for at in range(0, requests, CHUNK)]
        asking = [getattr(self, face) for face in faces]
        self.work = iter([(dice.choice(asking), xs, random.Random(xs[0])) for xs in chunks])  # noqa: S311

    def blow(self):
        """Ask everything; return what went wrong, by kind."""
        before = sys.getswitchinterval()
        sys.setswitchinterval(RESTLESS)
        try:
            return self._blow()
        finally:
            sys.setswitchinterval(before)

    def _blow(self):
        threads = [threading.Thread(target=self.serve, daemon=True) for _ in range(THREADS)]
        ends = time.monotonic() + LIMIT + self.requests / 2000
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, ends - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            self.faults["hung"] = self.requests - len(self.ends)
            faulthandler.dump_traceback(all_threads=True)
            return self.faults
        began = time.monotonic()
        self.p.close(timeout=LIMIT)
        self.faults["never drained"] += time.monotonic() - began >= LIMIT
        self.model.gates.close()
        self.judge()
        return +self.faults

    def serve(self):
        while True:
            with self.lock:
                face, xs, dice = next(self.work, (None, None, None))
            if face is None:
                return
            try:
                face(xs, dice)
            except BaseException as error:  # noqa: BLE001 - the callers' own doing would be a fault
                self.faults[f"{face.__name__} raised {error!r}"] += 1

    def judge(self):
        stats = self.p.stats
        self.faults["lost"] += self.requests - len(self.ends)
        with self.model.lock:  # calls that were stuck come back just now
            self.faults["run twice"] += sum(times > 1 for times in self.model.served.values())
        self.faults["left behind"] += bool(stats.queued or stats.running)

    def note(self, x, ending):
        name = "answer" if isinstance(ending, tuple) else type(ending).__name__
        with self.lock:
            self.faults["answered twice"] += x in self.ends
            self.faults["swapped"] += name == "answer" and ending != answer(x)
            self.ends[x] = name
            self.faults["hurt by another"] += not self.may_end(x, name)

    def may_end(self, x, name):
        fate, runs = self.model.fates[x], self.model.runs[x]
        if name == "answer":
            return fate in {"fine", "slow"}
        if name == "Poison":
            return fate in {"poison", "odd"}
        if name == "Stuck":
            return any(run.was_long() for run in runs)
        if name in SPOILS:
            return any(SPOILS[name] in run.fates for run in runs)
        return name in {"Left", "DeadlineExceeded", "Overloaded"}

    # The faces

    def asked(self, dice):
        """Draw in what request a call is made."""
        timeout = dice.random() * 0.002 if dice.random() < 0.02 else None
        return ms.request(
            timeout=timeout, priority=dice.choice([0, 0, 1]), tenant=dice.choice([None, "a", "b"])
        )

    def by_call(self, xs, dice):
        for x in xs:
            try:
                with self.asked(dice):
                    y = self.p(x)
            except Exception as error:  # noqa: BLE001 - noted
                y = error
            self.note(x, y)

    def by_plain_call(self, xs, dice):
        """Ask in no request and as fast as can be: what is noted at once holds others up."""
        ys = []
        for x in xs:
            try:
                ys.append(self.p(x))
            except Exception as error:  # noqa: BLE001 - noted
                ys.append(error)
        for x, y in zip(xs, ys, strict=True):
            self.note(x, y)

    def by_map(self, xs, dice):
        with self.asked(dice):
            for x, y in zip(xs, self.p.map(xs, return_exceptions=True), strict=True):
                self.note(x, y)

    def by_submit(self, xs, dice):
        futures = {}
        for x in xs:
            try:
                with self.asked(dice):
                    futures[x] = self.p.submit(x)
            except Exception as error:  # noqa: BLE001 - noted
                self.note(x, error)
        for x, future in futures.items():
            if dice.random() < 0.3 and future.cancel():
                self.note(x, Left())
            else:
                self.note(x, future.exception() or future.result())

    def by_acall(self, xs, dice):
        async def ask(x):
            try:
                with self.asked(dice):
                    y = await self.p.acall(x)
            except asyncio.CancelledError:
                y = Left()
            except Exception as error:  # noqa: BLE001 - noted
                y = error
            self.note(x, y)

        async def main():
            tasks = [asyncio.create_task(ask(x)) for x in xs]
            await asyncio.sleep(0)
            for task in tasks:
                if dice.random() < 0.3:
                    task.cancel()
                    await asyncio.sleep(0)
            await asyncio.gather(*tasks)

        asyncio.run(main())

    def by_amap(self, xs, dice):
        async def main():
            leaves = dice.choice(xs) if dice.random() < 0.3 else xs[-1]
            with self.asked(dice):
                answers = self.p.amap(xs, return_exceptions=True)
                for x in range(xs[0], leaves + 1):
                    self.note(x, await anext(answers))
                await answers.aclose()
            for x in range(leaves + 1, xs.stop):
                self.note(x, Left())

        asyncio.run(main())


class Left:
    """How a call ended whose caller went away."""


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000, help="calls in all")
    parser.add_argument("--seed", type=int, default=0, help="who fares how")
    asked = parser.parse_args()
    faults = Counter()
    for colour, faces, options in SERVICES:
        began = time.perf_counter()
        storm = Storm(colour, faces, asked.requests // len(SERVICES), asked.seed, **options)
        faults += storm.blow()
        seconds = time.perf_counter() - began
        ends = Counter(storm.ends.values()).most_common()
        shown = ", ".join(f"{times:,} {name}" for name, times in ends)
        print(f"{colour} {faces} {options}: {shown} in {seconds:.1f} s", flush=True)
        if faults:
            print(storm.p)
            break
    print("what went wrong:", dict(faults) or "nothing")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
