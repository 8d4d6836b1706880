"""Which GPUs are seen, by the texts of ``nvidia-smi`` and the forms of a mask."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.visible import Gpu, Slice, are_numbered, read_list, read_query, visible

QUERY = """\
0, GPU-8932f937-d72c-4106-c12f-20bd9faed9f6, NVIDIA A100-SXM4-40GB, 40960, 40339
1, GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77, NVIDIA A100-SXM4-40GB, 40960, 1024
2, GPU-8932aaaa-0000-0000-0000-000000000000, Quadro, RTX, 8192, 8000
3, GPU-dead, [Unknown Error], [N/A], [N/A]

"""
LIST = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-8932f937-d72c-4106-c12f-20bd9faed9f6)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 1g.5gb      Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
  MIG 1c.1g      Device  2: (UUID: MIG-00000000-9bed-5b25-b243-5985ef7c9beb)
GPU 2: Quadro, RTX (UUID: GPU-8932aaaa-0000-0000-0000-000000000000)
"""
WHOLE = [Gpu(i, f"GPU-{i:04x}", f"gpu {i}", 100, 90) for i in range(4)]


@pytest.fixture
def sliced():
    return read_list(LIST, read_query(QUERY))


def test_what_nvidia_smi_says_is_read():
    assert read_query(QUERY)[0] == Gpu(
        0,
        "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
        "NVIDIA A100-SXM4-40GB",
        40 << 30,
        40339 << 20,
    )
    assert [gpu.name for gpu in read_query(QUERY)[2:]] == ["Quadro,RTX"]
    assert read_query("No devices were found\n") == []
    assert read_list("  MIG 1g.5gb  Device 0: (UUID: MIG-1)\nno GPU\n", WHOLE) == WHOLE


def test_mig_devices_are_read_below_their_gpu(sliced):
    assert [len(gpu.slices) for gpu in sliced] == [0, 3, 0]
    uuid = "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"
    assert sliced[1].slices[0] == Slice(uuid, "3g.20gb", 20 * 10**9)
    assert sliced[1].slices[2].total == 0
    assert read_list("", sliced) == [gpu._replace(slices=()) for gpu in sliced]


@pytest.mark.parametrize(
    ("mask", "seen"),
    [
        (None, [0, 1, 2, 3]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("2,1", [2, 1]),
        (" 3 , 0", [3, 0]),
        ("0,2,-1,1", [0, 2]),
        ("0,9,1", [0]),
        ("1,1", [1]),
        ("0,", [0]),
        ("GPU-0003,0", [3, 0]),
        ("GPU-000", []),
        ("GPU-zzz,0", []),
        ("MIG-GPU-0001/1/0", []),
        ("MIG-0001", []),
    ],
)
def test_a_mask_leaves_what_cuda_leaves(mask, seen):
    assert [gpu.number for gpu in visible(mask, WHOLE)] == seen


@pytest.mark.parametrize(
    ("mask", "uuids"),
    [
        ("2", ["GPU-8932aaaa-0000-0000-0000-000000000000"]),
        ("GPU-8932f", ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"]),
        ("GPU-8932", []),
        ("MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb", ["MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb"]),
        ("MIG-cba", ["MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb"]),
        ("MIG-c", []),
        (
            "MIG-GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77/1/0",
            ["MIG-GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77/1/0"],
        ),
        ("1", ["MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"]),
        ("0,1", ["MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"]),
        (None, ["MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"]),
    ],
)  # fmt: skip
def test_a_process_sees_one_mig_device_and_nothing_beside(sliced, mask, uuids):
    assert [gpu.uuid for gpu in visible(mask, sliced)] == uuids


def test_a_mig_device_has_the_name_and_the_size_of_its_profile(sliced):
    [seen] = visible("MIG-cba", sliced)

    assert seen.name == "NVIDIA A100-SXM4-40GB MIG 1g.5gb"
    assert (seen.total, seen.free) == (5 * 10**9, 5 * 10**9)


def test_a_mig_device_named_by_its_instances_is_taken_for_the_smallest_that_it_may_be(sliced):
    two = [gpu._replace(slices=gpu.slices[:2]) for gpu in sliced]
    one = [gpu._replace(slices=gpu.slices[:1]) for gpu in sliced]
    word = "MIG-GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77/5/0"

    [seen] = visible(word, two)
    assert (seen.uuid, seen.total) == (word, 5 * 10**9)
    assert seen.name.endswith("MIG 1g.5gb")
    [seen] = visible(word, one)
    assert (seen.uuid, seen.total) == (one[1].slices[0].uuid, 20 * 10**9)


@pytest.mark.parametrize(
    ("mask", "order", "sure"),
    [
        (None, None, False),
        ("0", None, False),
        ("GPU-8932f,1", "FASTEST_FIRST", False),
        ("GPU-8932f", None, True),
        ("", None, True),
        (None, "PCI_BUS_ID", True),
        ("0", "PCI_BUS_ID", True),
    ],
)
def test_numbers_of_gpus_that_differ_are_sure_by_the_bus_alone(sliced, mask, order, sure):
    assert are_numbered(mask, sliced, order) == sure
    assert are_numbered(mask, sliced[:2], order)


words = st.one_of(
    st.integers(-2, 6).map(str), st.sampled_from([*(g.uuid for g in WHOLE), "GPU-0", "x", " 1 "])
)


@given(st.lists(words, max_size=6))
def test_what_is_seen_is_a_beginning_of_the_mask_each_once(mask):
    seen = visible(",".join(mask), WHOLE)

    assert len(set(seen)) == len(seen) <= len(mask)
    assert set(seen) <= set(WHOLE)
    for gpu, word in zip(seen, mask, strict=False):
        assert word.strip() in {str(gpu.number), gpu.uuid}
