"""Seed bugs into copies of the package, one at a time, and see which test catches each.

    python -m tests.mutants --jobs 2
    python -m tests.mutants --only waiting

Every module of this folder has a list ``BUGS``. A bug is looked for with the tests of the file that
it is in, then with all of the batcher, then with those of every predictor. Ends with 1 if one
survives that is not argued to be equivalent, or is caught though it is.
"""

import argparse
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutants._bug import PACKAGE

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ROUNDS = [
    ["tests/batcher/test_storms.py"],
    ["tests/batcher"],
    ["tests/predictor", "tests/contract"],
]
"""Tests for bugs that the tests of their own file do not catch, the likeliest first."""
PYTEST = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:randomly"]
PYTEST += ["-p", "no:cacheprovider"]
NO_TESTS = 5
LIMIT = 120.0
"""Seconds for the tests of one bug."""


def bugs():
    """Every bug of every list, in order."""
    names = sorted(path.stem for path in HERE.glob("[!_]*.py"))
    return [bug for name in names for bug in importlib.import_module(f"tests.mutants.{name}").BUGS]


def mirror(file):
    """Name the tests of one file of the package: those that are called as it is."""
    path = Path(file)
    stem = path.stem.removeprefix("_")
    folder = ROOT / "tests" / path.parent
    found = [folder / f"test_{stem}.py", *sorted(folder.glob(f"test_{stem}_*.py"))]
    return [str(test.relative_to(ROOT)) for test in found if test.exists()]


def copy_to(folder):
    """Copy what the tests need."""
    for source in (PACKAGE, ROOT / "tests"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / source.name, ignore=ignore)
    for name in ("pyproject.toml", "conftest.py"):
        shutil.copy(ROOT / name, folder)


def tested(folder, tests, limit):
    """Run tests until the first fails; say which, or "" if none does."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*PYTEST, *tests],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "no end in time"
    if done.returncode in {0, NO_TESTS}:
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    return failed[1] if failed else f"exit status {done.returncode}"


def caught_by(bug, folder, limit):
    """Seed one bug in a copy, run the tests, and take it out again."""
    ends = time.monotonic() + limit
    with bug.seeded(folder / PACKAGE.name):
        for tests in (mirror(bug.file), *ROUNDS):
            caught = tested(folder, tests, ends - time.monotonic()) if tests else ""
            if caught:
                return caught
        return ""


def hunt(chosen, jobs, limit):
    """Seed every bug and return each with what caught it, in order.

    Raises AssertionError if the tests fail without any bug: then they tell nothing.
    """
    with tempfile.TemporaryDirectory() as base:
        copies = SimpleQueue()
        for i in range(jobs):
            folder = Path(base) / str(i)
            copy_to(folder)
            copies.put(folder)

        firsts = {test for bug in chosen for test in mirror(bug.file)}
        for tests in (sorted(firsts), *ROUNDS):
            failed = tested(folder, tests, limit)
            assert not failed, f"without any bug this fails: {failed}"

        def look(bug):
            folder = copies.get()
            try:
                began = time.monotonic()
                caught = caught_by(bug, folder, limit)
                show(bug, caught, time.monotonic() - began)
                return bug, caught
            finally:
                copies.put(folder)

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(look, chosen))


def show(bug, caught, seconds):
    verdict = caught or ("equivalent" if bug.equivalent else "SURVIVED")
    print(f"{bug.place}  {bug.why}\n    {verdict}  ({seconds:.0f} s)", flush=True)


def summed_up(results):
    """Print the verdict, and return how many results are not as they should be."""
    equivalent = sum(bool(bug.equivalent) for bug, _ in results)
    survived = [bug for bug, caught in results if not caught and not bug.equivalent]
    refuted = [bug for bug, caught in results if caught and bug.equivalent]
    bugs = len(results) - equivalent
    print(f"\n{bugs - len(survived)} of {bugs} bugs caught; {equivalent} more argued equivalent")
    for bug in survived:
        print(f"SURVIVED: {bug.place}  {bug.why}")
    for bug in refuted:
        print(f"NOT EQUIVALENT: {bug.place}  {bug.why}")
    return len(survived) + len(refuted)


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="copies at once")
    parser.add_argument("--only", action="append", help="bugs with this text; may be repeated")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for one bug")
    asked = parser.parse_args()
    texts = asked.only or [""]
    chosen = [bug for bug in bugs() if any(text in f"{bug.place} {bug.why}" for text in texts)]
    return 1 if summed_up(hunt(chosen, asked.jobs, asked.limit)) else 0


if __name__ == "__main__":
    sys.exit(main())
