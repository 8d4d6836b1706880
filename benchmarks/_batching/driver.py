"""Run scenarios for one contestant: commands come and figures go as lines of JSON.

Started as ``python -m _batching.driver``, in the contestant's own environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from _batching.load import served, sustained
from _batching.mlp import mlp
from _batching.null import null
from _batching.overload import overload
from _batching.upkeep import idle, kept, stalled

SCENARIOS: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
    "null": null,
    "served": served,
    "sustained": sustained,
    "mlp": mlp,
    "overload": overload,
    "idle": idle,
    "stalled": stalled,
    "kept": kept,
}


def answer(do: str, limit: float, **what: Any) -> dict[str, Any]:
    """Run one command. A batcher that hangs is ended by the timer, and this process with it."""
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        return {"figures": asyncio.run(SCENARIOS[do](**what))._asdict()}
    except Exception as error:  # noqa: BLE001 - it is this contestant's result
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library that prints harms nobody
    for line in sys.stdin:
        answers.write(json.dumps(answer(**json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
