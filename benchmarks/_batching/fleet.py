"""One process a contestant, asked in turn; who is not asked is stopped, and so costs nobody.

Peers need versions of their dependencies that exclude one another, so each has an environment of
its own, made on demand in a folder that git ignores.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".benchmarks"
PEERS = {
    "batched": ["batched==0.1.5"],
    "async-batcher": ["async-batcher==0.2.2"],
    "Ray": ["ray[serve]==2.60.0"],
    "BentoML": ["bentoml==1.4.39"],
    "MLServer": ["mlserver==1.7.1"],
}
"""What to install for each peer."""

ALSO = ["numpy", "onnxruntime"]
"""What the scenarios need."""

Answer = dict[str, Any]
T = TypeVar("T")


class Missing(RuntimeError):
    """A contestant that could not be installed."""


def own_folder() -> None:
    """Make the folder for what is not to be committed."""
    ENVIRONMENTS.mkdir(exist_ok=True)
    (ENVIRONMENTS / ".gitignore").write_text("*\n")


def environment(peer: str) -> Path:
    """Return the interpreter of a peer's environment, made if it is not there."""
    folder = ENVIRONMENTS / peer.replace(" ", "-")
    python, ready = folder / "bin" / "python", folder / "ready.txt"
    needs = [*PEERS[peer], *ALSO]
    wanted = f"{sys.version}\n{needs}\n"
    if ready.exists() and ready.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    own_folder()
    pip = [str(python), "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), *needs]
    for command in ([sys.executable, "-m", "venv", str(folder)], pip):
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise Missing(f"not installed: {' '.join(said)[:200]}")
    ready.write_text(wanted)
    return python


class Driver:
    """The process of one contestant, started when it is asked first, and again if it died."""

    def __init__(self, adapter: str, python: Path) -> None:
        self._adapter = adapter
        self._python = python
        self._process: subprocess.Popen[str] | None = None

    def ask(self, do: str, limit: float, **what: Any) -> Answer:
        """Run one command; give its figures, or the error that stands in their place."""
        process = self._process or self._start()
        process.send_signal(signal.SIGCONT)
        assert process.stdin is not None
        assert process.stdout is not None
        command = {"do": do, "limit": limit, "adapter": self._adapter, **what}
        process.stdin.write(json.dumps(command) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            self.end()
            return {"error": f"no answer in {limit:g} s, or died"}
        process.send_signal(signal.SIGSTOP)
        answer: Answer = json.loads(line)
        return answer

    def _start(self) -> subprocess.Popen[str]:
        paths = [str(ROOT / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(  # noqa: S603 - our own
            [str(self._python), "-P", "-m", "_batching.driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        return self._process

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


class Fleet:
    """The contestants of a run."""

    def __init__(self, peers: Sequence[str]) -> None:
        self._drivers: dict[str, Driver] = {}
        self.missing: dict[str, str] = {}
        for peer in peers:
            print(f"preparing {peer}", file=sys.stderr)
            try:
                self._drivers[peer] = Driver(peer, environment(peer))
            except Missing as error:
                self.missing[peer] = str(error)

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End every process."""
        for driver in self._drivers.values():
            driver.end()

    def ask(self, name: str, do: str, limit: float, **what: Any) -> Answer:
        """Ask one contestant; whoever is no peer runs in this very environment."""
        if name in self.missing:
            return {"error": self.missing[name]}
        if name not in self._drivers:
            self._drivers[name] = Driver(name, Path(sys.executable))
        return self._drivers[name].ask(do, limit, **what)


def rounds(
    names: Sequence[str],
    number: int,
    ask: Callable[[str, int], T],
    *,
    beside: Sequence[str] = (),
) -> dict[str, list[dict[str, T]]]:
    """Ask everybody in turn, in an order that changes, round after round.

    Whoever stands ``beside`` is asked anew right before each other, so that a ratio is of moments
    that lie together. Gives what was answered each time, by name.
    """
    order = list(names)
    trips: dict[str, list[dict[str, T]]] = {name: [] for name in names}
    for index in range(number):
        for name in order:
            who = [base for base in beside if base != name]
            trips[name].append({each: ask(each, index) for each in [*who, name]})
        order = order[1:] + order[:1]
    return trips


def own(name: str, trips: Sequence[dict[str, T]]) -> list[T]:
    """Pick one contestant's answers."""
    return [trip[name] for trip in trips]
