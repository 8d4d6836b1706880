"""Explore many schedules of every trial; what is found is named by its seed.

    python -m tests.schedules --count 50000 --jobs 2
    python -m tests.schedules --trial service --seed-from 17 --count 1    # that one again

Ends with 1 if anything was found.
"""

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.batcher.trials import TRIALS
from tests.support.virtual import run

AGAIN = "python -m tests.schedules"
CHUNK = 200
ENOUGH = 5
"""Findings after which looking for more tells nothing more."""


def explored(name, seeds):
    """Run a trial once a seed; give back the seeds that found something, with what it was."""
    main, options = TRIALS[name]
    found = []
    for seed in seeds:
        try:
            run(main, seed=seed, **options)
        except Exception:  # noqa: BLE001 - whatever it is, it is a finding
            found.append((seed, traceback.format_exc()))
    return name, len(seeds), found


def chunks(names, first, count):
    """Split ``count`` schedules evenly over trials, and each trial's seeds into chunks."""
    for i, name in enumerate(names):
        seeds = range(first, first + len(range(i, count, len(names))))
        yield from ((name, seeds[at : at + CHUNK]) for at in range(0, len(seeds), CHUNK))


def explore_all(names, first, count, jobs):
    """Explore in several processes; print what is found and return how many schedules found it."""
    findings, done = 0, Counter()
    began = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        asked = [pool.submit(explored, *chunk) for chunk in chunks(names, first, count)]
        for answer in as_completed(asked):
            name, ran, found = answer.result()
            done[name] += ran
            for seed, text in found:
                findings += 1
                print(f"{text}{name!r} found this by seed {seed}; to repeat it:")
                print(f"    {AGAIN} --trial {name!r} --seed-from {seed} --count 1\n")
            if findings >= ENOUGH:
                pool.shutdown(cancel_futures=True)
                break
    seconds = time.perf_counter() - began
    for name, ran in sorted(done.items()):
        print(f"{name}: {ran:,} schedules from seed {first}")
    total = done.total()
    rate = f"{total:,} schedules in {seconds:.1f} s, {total / seconds:,.0f} a second"
    print(f"{rate}; {findings} found something")
    return findings


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.schedules", description=__doc__)
    parser.add_argument("--count", type=int, default=50_000, help="schedules in all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--seed-from", type=int, default=0, help="the first seed")
    parser.add_argument("--trial", choices=TRIALS, action="append", help="this; may be repeated")
    asked = parser.parse_args()
    names = asked.trial or list(TRIALS)
    return 1 if explore_all(names, asked.seed_from, asked.count, asked.jobs) else 0


if __name__ == "__main__":
    sys.exit(main())
