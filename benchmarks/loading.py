"""Loading models: what reading costs, what a swap does to requests, who waits for a load.

A lock-per-call loader and a plain attribute run beside ours; requests under swaps arrive at their
times whatever happens, and their latency counts from then. A figure that misses its target fails
nothing.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from _loading import access, files, swaps
from _measure import options, report


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    asked = options(__doc__ or "")
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            *access.rows(quick=asked.quick),
            *swaps.rows(quick=asked.quick),
            *files.rows(Path(folder), quick=asked.quick),
        ]
    report(rows, asked.json)


if __name__ == "__main__":
    main()
