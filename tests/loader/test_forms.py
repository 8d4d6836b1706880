"""What a loader was warmed with, new versions are warmed with, too."""

import asyncio

import numpy as np
import pytest

import modelserve as ms
from modelserve.loader._forms import MOST, Warmup, form
from tests.loader.test_reload import loader_of

ROWS = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ROWS, 2 * ROWS),
        ({"a": ROWS, "b": 1}, {"b": 2, "a": 2 * ROWS}),
        ([ROWS, "a"], [ROWS + 1, "b"]),
        ("a", "b"),
        (None, None),
    ],
)
def test_inputs_of_one_form(one, other):
    assert form(one) == form(other)
    assert hash(form(one)) == hash(form(other))


def test_inputs_of_other_forms():
    inputs = [
        ROWS,
        ROWS[:1],
        ROWS.astype(float),
        [ROWS],
        (ROWS,),
        [ROWS, ROWS],
        {"a": ROWS},
        {"b": ROWS},
        "a",
        1,
        1.0,
    ]

    assert len({form(x) for x in inputs}) == len(inputs)


def test_one_input_of_each_form_is_remembered_up_to_a_number():
    warmup = Warmup([np.zeros(1)])
    for n in [1, 2, 2, *range(1, 100)]:
        warmup.meet(np.full(n, n))

    assert [len(x) for x in warmup.inputs()] == [1, *range(1, MOST + 1)][: MOST + 1]
    assert warmup.given[0].tolist() == [0.0]


class Model:
    def __init__(self):
        self.seen = []

    def __call__(self, x):
        self.seen.append(x.shape)
        return x


@pytest.mark.parametrize("mode", ["lazy", "eager"])
def test_a_new_version_answers_what_the_loader_was_warmed_with(mode):
    one, two = Model(), Model()
    loader = loader_of(one, two, warmup=[ROWS], mode=mode)
    ms.warm(loader, ROWS[:1])
    asyncio.run(ms.awarm(loader, ROWS[0]))
    loader(np.ones(9))
    loader.reload()

    assert two.seen == [(2, 3), (1, 3), (3,)]


def test_every_batch_that_a_batcher_warms_is_remembered():
    one, two = Model(), Model()
    loader = loader_of(one, two)
    with ms.DynamicBatcher(loader, max_batch_size=8) as batcher:
        ms.warm(batcher, np.ones(3))
        loader.reload()

    assert two.seen == one.seen == [(1, 3), (8, 3)]


def test_an_input_that_the_model_refuses_is_not_remembered():
    loader = loader_of(hex, oct)
    with pytest.raises(TypeError):
        ms.warm(loader, "no number")

    assert loader.reload() == "2"
