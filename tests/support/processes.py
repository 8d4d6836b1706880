"""Other processes: fresh interpreters and forked children, each with a limit."""

import os
import select
import subprocess
import sys
import warnings

LIMIT = 60.0


def fresh(code, *, env=None):
    """Run a program in a new interpreter and return what it prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    environment = {**os.environ, **(env or {})}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_child(work):
    """Fork, and return the repr of what ``work()`` returns or raises there."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads run: that is the point
        child = os.fork()
    if not child:
        try:
            said = repr(work())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
            said = repr(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    try:
        ready, _, _ = select.select([reader], [], [], LIMIT)
        if not ready:
            os.kill(child, 9)
        return os.read(reader, 10_000).decode() if ready else f"nothing in {LIMIT} s"
    finally:
        os.close(reader)
        os.waitpid(child, 0)
