import numpy as np
import pytest

from modelserve.batcher._pad import Pad
from modelserve.errors import BadInput

REFUSED = {
    "none": (None, "the item is a NoneType: pass an array"),
    "list": ([1, 2], "the item is a list: pass an array"),
    "text": ("ab", "the item is a str"),
    "masked array": (np.ma.masked_array([1.0], [True]), "the item is a MaskedArray"),
    "empty dict": ({}, "the item is a dict"),
    "empty tuple": ((), "the item is a tuple"),
    "list in a dict": ({"ids": [1]}, r"item\['ids'\] is a list"),
    "nested": ({"a": {"b": np.zeros(2)}}, r"item\['a'\] is a dict"),
    "nested tuple": ((np.zeros(2), (np.zeros(2),)), r"item\[1\] is a tuple"),
    "0-d": (np.array(7), "the item is a single value"),
    "0-d leaf": ({"ids": np.zeros(2), "label": np.array(1)}, r"item\['label'\] is a single value"),
    "numpy scalar": (np.float32(1), "the item is a float32"),
    "ragged": (np.array([[1, 2], [3]], object), r"the item is an array of objects.* AsList\(\)"),
    "ragged leaf": ({"a": np.array([None])}, r"item\['a'\] is an array of objects"),
    "unlike lengths": (
        {"ids": np.zeros(3), "image": np.zeros((5, 2))},
        r"item\['image'\] has length 5, and item\['ids'\] has 3",
    ),
    "unlike positions": ((np.zeros(3), np.zeros(2)), r"item\[1\] has length 2, and item\[0\]"),
    "too long": (np.zeros(9), "an item of length 9, and the largest of sizes= is 8"),
}


@pytest.mark.parametrize(("item", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_padded_is_refused_by_name(item, message):
    with pytest.raises(BadInput, match=message):
        Pad(sizes=[4, 8], trim=True).lane(item)


@pytest.mark.parametrize(
    ("item", "names"),
    [(np.zeros(2), r"\[None\]"), ({"ids": np.zeros(2)}, r"\['ids'\]"), ((np.zeros(2),), r"\[0\]")],
    ids=repr,
)
def test_a_value_for_a_leaf_that_is_not_there_is_refused(item, names):
    with pytest.raises(BadInput, match=rf"value= is for \['input_id'\], and the item has {names}"):
        Pad(value={"input_id": 1}, trim=True).lane(item)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"multiple": 0}, ValueError, "multiple=0, .*: pass lengths of 1 or more"),
        ({"sizes": []}, ValueError, r"sizes=\[\]: pass lengths"),
        ({"sizes": [0, 4]}, ValueError, "pass lengths of 1 or more"),
        ({"sizes": [4], "multiple": 2}, ValueError, "one of multiple= and sizes="),
        ({"value": None}, ValueError, "value=None: pass a scalar"),
        ({"value": {"a": [1]}}, ValueError, "pass a scalar, or a mapping"),
        ({"trim": "logits"}, TypeError, r"trim='logits': pass \['logits'\]"),
        ({"trim": None}, TypeError, "not iterable"),
    ],
    ids=repr,
)
def test_options_that_mean_nothing_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        Pad(**{"trim": True, **options})


def test_what_to_trim_must_be_said():
    with pytest.raises(TypeError, match="trim"):
        Pad()
