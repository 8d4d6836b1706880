"""Batchers side by side: overhead, and what the callers of a device get.

Each contestant runs in a process, and each peer in an environment, of its own (made on demand in
``.benchmarks``, which git ignores), and all of them run the very same driver: an adapter makes of
a batch function a coroutine function of one item. They are asked in turn, round after round;
whoever is not asked is stopped. A ratio is taken between moments that lie together; shown are the
median over the rounds and the middle half. It needs Linux.

- ``null``: a model that does nothing, 1, 64 and 512 callers that wait for each answer. CPU
  microseconds a request (all threads of the process) beside the limit: one future a caller, one
  drain a turn of the loop or one hand-off a batch to a thread and back, and nothing else.
- ``load``: a simulated device (a wait, a fixed time and one an item, one batch at a time) and
  Poisson arrivals, the same trace for all. Latencies count from the arrival. The oracle is a
  simulation of discrete events, late binding without wait, fed with the same trace and, for each
  batch, with what the device was late by at that time. Sustained is the largest load, by halving,
  whose queue grows from the second quarter of the run to the last by at most one batch more than
  the oracle's.
- ``mlp``: ONNX Runtime on one thread, 64 callers, beside the model called with batches formed
  beforehand, and row by row.
- ``overload``: the simulated device at three times its capacity, callers with a deadline. In time
  is an answer before the deadline; wasted is an item that ran without one; an item started late if
  its batch did after its deadline. The first second is not counted.
- ``upkeep``: CPU of an open batcher that nobody asks, calls kept by a model that does not answer,
  and memory after a million requests, with a batcher that leaks on purpose as a control.

Batches are of at most 64 (32 at the simulated device). Ours has its default ``max_wait`` of 0 but
in ``null``, which sets everybody to 0 and to 2 ms; peers wait 2 ms, and 0 where they can. Answers
are checked; a figure that misses its target fails nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from pathlib import Path

from _batching import load, mlp, null, overload, upkeep
from _batching.fleet import PEERS, Fleet
from _batching.tables import Table
from _measure import report

SCENARIOS = {
    "null": null.tables,
    "load": load.tables,
    "mlp": mlp.tables,
    "overload": overload.tables,
    "upkeep": upkeep.tables,
}


def options() -> argparse.Namespace:
    """Read what to run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="few short rounds and no peers but the naive one")
    add("--json", type=Path, help="write the figures to this file")
    add("--only", action="append", choices=SCENARIOS, help="run this scenario; may be repeated")
    add("--peers", help=f"with commas, of {', '.join(PEERS)}; all of them unless --quick")
    add("--rounds", type=int, help="how often everybody is asked")
    asked = parser.parse_args()
    if asked.peers is None:
        asked.peers = [] if asked.quick else list(PEERS)
    else:
        asked.peers = [peer for peer in asked.peers.split(",") if peer]
    unknown = set(asked.peers) - set(PEERS)
    if unknown:
        parser.error(f"no such peer: {', '.join(unknown)}")
    asked.rounds = asked.rounds or (3 if asked.quick else 4)
    return asked


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    asked = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # with all of its processes
    found: list[Table] = []
    with Fleet(asked.peers) as fleet:
        for scenario in asked.only or SCENARIOS:
            names = ["modelserve", "naive", *asked.peers]
            for table in SCENARIOS[scenario](fleet, names, asked.rounds, quick=asked.quick):
                print(f"\n{table.title}")
                report(table.rows, None)
                found.append(table)
    if asked.json is not None:
        about = {
            "python": sys.version.split()[0],
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "peers": {peer: PEERS[peer] for peer in asked.peers},
        }
        tables = {table.title: table.rows for table in found}
        asked.json.write_text(json.dumps({**about, "tables": tables}, indent=1))


if __name__ == "__main__":
    main()
