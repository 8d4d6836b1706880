"""How much memory and how many cores a process may use: what Linux says in its files.

Version 2 of control groups says ``max`` where there is no limit, version 1 a number that no machine
has ("Control Group v2" and "CFS Bandwidth Control" in the documentation of the kernel).

>>> nbytes("8589934592"), nbytes("max"), nbytes("9223372036854771712")
(8589934592, None, None)
>>> cores("150000 100000"), cores("max 100000"), cores("-1", "100000")
(1.5, None, None)
"""

from __future__ import annotations

from pathlib import PurePosixPath

UNLIMITED = 1 << 60
"""Bytes from which a limit is none: version 1 says the largest number of pages there is."""


def folders(text: str, controller: str) -> tuple[bool, list[str]]:
    """Read ``/proc/self/cgroup``: whether version 2 rules a controller, and where it may say so.

    The folders go from the process's own up to the root; each of them may limit. A container often
    sees its own as the root, so the root is always among them.
    """
    unified = "/"
    for line in text.splitlines():
        number, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return False, _upwards(path)
        if number == "0" and not controllers:
            unified = path
    return True, _upwards(unified)


def _upwards(path: str) -> list[str]:
    pure = PurePosixPath("/", path)
    return [str(each).strip("/") for each in (pure, *pure.parents)]


def nbytes(text: str) -> int | None:
    """Read a limit of memory in bytes; None where there is none."""
    word = text.strip()
    if not word.isdigit():
        return None
    return int(word) if int(word) < UNLIMITED else None


def cores(quota: str, period: str = "") -> float | None:
    """Read a limit of processor time in cores; None where there is none.

    Version 2 has both numbers in ``cpu.max``; version 1 has ``cpu.cfs_quota_us`` and
    ``cpu.cfs_period_us``.
    """
    words = [*quota.split(), *period.split()]
    numbers = [int(word) for word in words if word.isdigit()]
    if len(numbers) < len(words) or len(words) != 2 or not numbers[1]:  # noqa: PLR2004 - a pair
        return None
    return numbers[0] / numbers[1]


def meminfo(text: str) -> tuple[int, int]:
    """Read ``/proc/meminfo``: all the bytes of the machine, and those that can be had now."""
    fields = {name: rest for name, _, rest in (line.partition(":") for line in text.splitlines())}
    total, free = (int(fields[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable"))
    return total, free
