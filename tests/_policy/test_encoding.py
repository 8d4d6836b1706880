import gc
import weakref

import pytest

from modelserve._policy.encoding import NoKey, attributes, length, name_of, part, sized
from modelserve._policy.keys import ENCODERS


def test_what_has_a_length_comes_after_it():
    assert sized(b"ab") == length(2) + b"ab"
    assert length(1) < length(255)
    assert len(length(2**63)) == 8


def test_types_of_one_name_have_names_of_their_own_as_long_as_they_live():
    first, second = (type("Same", (), {"__module__": "m"}) for _ in range(2))

    assert name_of(first) == name_of(first) != name_of(second)
    assert name_of(first).startswith(sized(b"m.Same"))


def test_a_type_is_not_kept_by_its_name():
    kind = type("Gone", (), {"__module__": "m"})
    name, seen = name_of(kind), weakref.ref(kind)
    del kind
    gc.collect()

    assert seen() is None
    assert name_of(type("Gone", (), {"__module__": "m"})) != name


def test_a_refusal_gathers_its_place_on_the_way_out():
    with pytest.raises(NoKey) as raised:
        attributes([("a", 1), ("b", [{1}])], [], ENCODERS)

    assert raised.value.message().startswith("input.b[0] is a set, which has no key: pass key=")


def test_names_and_values_are_told_apart():
    encoded = []
    for pairs in ([("ab", "c")], [("a", "bc")], [("a", "b"), ("c", "d")], []):
        out = []
        attributes(pairs, out, ENCODERS)
        encoded.append(b"".join(out))

    assert len(set(encoded)) == 4


def test_a_part_is_encoded_as_it_is_alone():
    out = []
    part(1.0, out, ENCODERS, ".x")

    assert b"".join(out)[:1] == b"f"
