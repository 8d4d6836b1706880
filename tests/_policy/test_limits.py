"""What Linux says of limits, in texts of real machines."""

import pytest

from modelserve._policy.limits import cores, folders, meminfo, nbytes

V1_DOCKER = """\
12:hugetlb:/docker/3c1ba2ae5b67
11:memory:/docker/3c1ba2ae5b67
10:cpuset:/docker/3c1ba2ae5b67
4:cpu,cpuacct:/docker/3c1ba2ae5b67
1:name=systemd:/docker/3c1ba2ae5b67
0::/system.slice/containerd.service
"""
V2_SYSTEMD = "0::/user.slice/user-1000.slice/session-2.scope\n"
V2_CONTAINER = "0::/\n"
HYBRID = "9:name=systemd:/\n4:memory:/api/7f0e\n1:cpu:/\n0::/unified\n"
MEMINFO = """\
MemTotal:       24684084 kB
MemFree:        21480480 kB
MemAvailable:   23700872 kB
Buffers:           12345 kB
"""


@pytest.mark.parametrize(
    ("text", "controller", "expected"),
    [
        (V1_DOCKER, "memory", (False, ["docker/3c1ba2ae5b67", "docker", ""])),
        (V1_DOCKER, "cpu", (False, ["docker/3c1ba2ae5b67", "docker", ""])),
        (
            V2_SYSTEMD,
            "memory",
            (
                True,
                [
                    "user.slice/user-1000.slice/session-2.scope",
                    "user.slice/user-1000.slice",
                    "user.slice",
                    "",
                ],
            ),
        ),
        (V2_CONTAINER, "cpu", (True, [""])),
        (HYBRID, "memory", (False, ["api/7f0e", "api", ""])),
        (HYBRID, "cpu", (False, [""])),
        (HYBRID, "io", (True, ["unified", ""])),
        ("", "memory", (True, [""])),
    ],
    ids=["v1", "v1-joint", "v2", "v2-container", "hybrid", "hybrid-cpu", "hybrid-v2", "no-text"],
)
def test_the_folders_that_may_limit_go_up_to_the_root(text, controller, expected):
    assert folders(text, controller) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max\n", None),
        ("8589934592\n", 8 << 30),
        ("9223372036854771712\n", None),
        ("-1\n", None),
        ("0\n", 0),
        ("", None),
    ],
)
def test_limits_of_memory_are_bytes_or_none(text, expected):
    assert nbytes(text) == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("150000 100000\n",), 1.5),
        (("max 100000\n",), None),
        (("400000\n", "100000\n"), 4.0),
        (("-1\n", "100000\n"), None),
        (("100000\n", ""), None),
        (("100000 0\n",), None),
        (("", ""), None),
    ],
)
def test_limits_of_processors_are_cores_or_none(texts, expected):
    assert cores(*texts) == expected


def test_memory_of_the_machine_is_in_kibibytes():
    assert meminfo(MEMINFO) == (24_684_084 << 10, 23_700_872 << 10)
