import dataclasses
import math
import sys

import numpy as np
import pytest

from modelserve.cache._weigh import weigh


@dataclasses.dataclass
class Scores:
    rows: object


@dataclasses.dataclass(slots=True)
class Slotted:
    rows: object


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rows: rows,
        lambda rows: rows.copy()[:],
        lambda rows: [rows],
        lambda rows: (rows, 1.0),
        lambda rows: {"a": {"b": rows}},
        Scores,
        Slotted,
        lambda rows: [rows, rows, rows],
        bytes,
        lambda rows: "a" * rows.nbytes,
        lambda rows: np.array([rows.tobytes(), None], object),
    ],
    ids=["array", "view", "list", "tuple", "dict", "object", "slots", "same", "bytes", "text", "O"],
)
def test_what_a_value_holds_is_counted_once(wrap):
    assert 80_000 <= weigh(wrap(np.ones(10_000))) < 82_000


def test_what_holds_itself_is_counted_once():
    rows = [np.ones(1_000)]
    rows.append(rows)

    assert 8_000 <= weigh(rows) < 9_000


def test_classes_and_modules_belong_to_nobody():
    assert weigh([math, Scores, weigh]) == sys.getsizeof([None] * 3)


def test_a_tensor_is_its_numbers():
    torch = pytest.importorskip("torch")

    assert 4_000 <= weigh({"rows": torch.ones(1_000)}) < 5_000
