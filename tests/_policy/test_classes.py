import dataclasses
import datetime as dt
import enum
import io
import itertools
import math
import zoneinfo
from collections import UserDict
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.keys import by, key


@dataclasses.dataclass
class Point:
    x: object
    y: object = 0


@dataclasses.dataclass
class Place:
    x: object
    y: object = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: object
    y: object = 0


@dataclasses.dataclass
class Scaled:
    x: float
    by: dataclasses.InitVar[float]

    def __post_init__(self, by):
        self.scale = by

    @cached_property
    def scaled(self):
        return self.x * self.scale


class Pair(NamedTuple):
    x: object
    y: object = 0


class Other(NamedTuple):
    x: object
    y: object = 0


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Shade(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


ZONES = [None, dt.UTC, dt.timezone(dt.timedelta(0), "Z"), dt.timezone(dt.timedelta(hours=1))]
ZONES += [zoneinfo.ZoneInfo("Europe/Berlin"), zoneinfo.ZoneInfo("Europe/Paris")]
NOON = dt.datetime(2026, 3, 1, 12)  # noqa: DTZ001 - naive is one of the kinds
NEAR_MISSES = {
    "types of equal fields": [Point(1), Place(1), Slotted(1), Pair(1), Other(1, 0), (1, 0), [1, 0]],
    "fields": [Point(1, 2), Point(2, 1), Point(1, 2.0), Point((1, 2)), {"x": 1, "y": 2}],
    "nested": [Point(Point(1)), Point(Place(1)), Point([1]), [Point(1)], Point(1)],
    "what is no field": [Scaled(1.0, 2.0), Scaled(1.0, 3.0)],
    "members": [Color.RED, Color.BLUE, Shade.RED, Level.LOW, 1, "RED"],
    "flags": [Access.READ, Access.WRITE, Access.READ | Access.WRITE, Access(0), 1, 3],
    "dates": [NOON, NOON.date(), NOON.time(), NOON.isoformat(), NOON.replace(fold=1)],
    "zones": [NOON.replace(tzinfo=zone) for zone in ZONES],
    "zones of times": [NOON.time().replace(tzinfo=zone) for zone in ZONES],
    "instants": [NOON + dt.timedelta(microseconds=n) for n in range(3)],
    "spans": [dt.timedelta(1), dt.timedelta(-1), dt.timedelta(seconds=1), dt.timedelta(0), 0],
    "decimals": [*map(Decimal, ["1", "1.0", "-0", "0", "NaN", "sNaN", "Infinity"]), 1, "1"],
    "fractions": [Fraction(1, 2), Fraction(2, 1), Fraction(1), Fraction(0), 1, 0.5],
    "uuids": [UUID(int=1), UUID(int=2), str(UUID(int=1)), UUID(int=1).bytes],
}


@pytest.mark.parametrize("values", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_look_alikes_are_told_apart(values):
    for one, other in itertools.combinations(values, 2):
        assert key(one) != key(other), (one, other)
        assert key([one]) != key([other]), (one, other)


def some_of_each():
    return [
        Point(np.arange(3.0), [1]),
        Slotted("a"),
        Pair(math.nan),
        Color(1),
        dt.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        dt.timedelta(days=-3, microseconds=1),
        Decimal("-1.20"),
        Fraction(2, 4),
        UUID(int=7),
    ]


def test_equal_objects_have_equal_keys():
    assert [key(x) for x in some_of_each()] == [key(x) for x in some_of_each()]
    assert key(some_of_each()) == key(some_of_each())


SCALARS = st.one_of(
    st.dates(),
    st.datetimes(timezones=st.sampled_from(ZONES)),
    st.times(timezones=st.sampled_from(ZONES)),
    st.timedeltas(),
    st.uuids(),
    st.decimals(),
    st.fractions(),
    st.sampled_from([*Color, *Shade, *Level, *Access]),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
)
OBJECTS = st.recursive(
    SCALARS,
    lambda parts: st.one_of(
        *(st.builds(kind, parts, parts) for kind in (Point, Place, Slotted, Pair, Other)),
        st.lists(parts, max_size=3),
    ),
    max_leaves=4,
)


def shape_of(x):
    if dataclasses.is_dataclass(x):
        return type(x), shape_of(x.x), shape_of(x.y)
    if isinstance(x, list | tuple):
        return type(x), tuple(map(shape_of, x))
    zone = getattr(x, "tzinfo", None)
    name = zone.tzname(None) if isinstance(zone, dt.timezone) else str(zone)
    return type(x), repr(x), name


@given(OBJECTS, OBJECTS)
def test_different_objects_have_different_keys(one, other):
    assert (key(one) == key(other)) == (shape_of(one) == shape_of(other))


def test_two_types_called_alike_are_told_apart():
    def made():
        return dataclasses.make_dataclass("Same", ["x"])

    one, other = made(), made()

    assert key(one(1)) == key(one(1)) != key(other(1))


def test_what_a_dataclass_remembers_of_itself_does_not_count():
    one, other = Scaled(1.0, 2.0), Scaled(1.0, 2.0)
    assert one.scaled == 2.0

    assert key(one) == key(other)


def test_a_field_that_is_not_set_is_seen():
    @dataclasses.dataclass(slots=True)
    class Partly:
        x: int
        y: int = dataclasses.field(init=False)

    one, other = Partly(1), Partly(1)
    other.y = 2

    assert key(one) != key(other)


def test_pydantic_models_are_their_fields():
    pydantic = pytest.importorskip("pydantic")

    class Item(pydantic.BaseModel, extra="allow"):
        x: float
        tags: tuple[str, ...] = ()
        _seen: int = pydantic.PrivateAttr(default=0)

    class Thing(pydantic.BaseModel):
        x: float
        tags: tuple[str, ...] = ()

    hidden = Item(x=1)
    hidden._seen = 1
    items = [Item(x=1), Item(x=2), Item(x=1, tags=("a",)), Item(x=1, more=1), hidden, Thing(x=1)]

    assert len({key(item) for item in items}) == len(items)
    assert key(Item(x=1, tags=("a",))) == key(Item(tags=("a",), x=1.0))
    assert key(Item.model_construct()) != key(Item(x=1))
    with pytest.raises(TypeError, match=r"^input\[0\]\.more is a set, which has no key"):
        key([Item(x=1, more={1})])


class Base:
    __slots__ = ("hidden",)


@dataclasses.dataclass
class Hiding(Base):
    x: int


@dataclasses.dataclass
class Grown(dict):
    x: int


@dataclasses.dataclass
class Priced(Decimal):
    x: int = 1


class Tagged(Pair):
    """A named tuple that can hold more than it shows."""


class Words(tuple):
    __slots__ = ()


class Zone(dt.tzinfo):
    pass


def nameless():
    """Make a zone of a file that says no name: version 1, no transition, one type, UTC."""
    counts = b"".join(n.to_bytes(4, "big") for n in (0, 0, 0, 0, 1, 4))
    return zoneinfo.ZoneInfo.from_file(
        io.BytesIO(b"TZif" + bytes(16) + counts + bytes(6) + b"UTC\0")
    )


@pytest.mark.parametrize(
    ("x", "place", "what"),
    [
        (Point({1}), r"input\.x", "a set"),
        ([Point(1, Point({1}))], r"input\[0\]\.y\.x", "a set"),
        (Pair({"a": {1}}), r"input\.x\['a'\]", "a set"),
        (Hiding(1), "input", "a Hiding with slots"),
        (Grown(1), "input", "a Grown"),
        (Priced(1), "input", "a Priced"),
        (Tagged(1), "input", "a Tagged"),
        (Words("ab"), "input", "a Words"),
        (UserDict(a=1), "input", "a UserDict"),
        (dt.time(tzinfo=nameless()), r"input\.tzinfo", "a ZoneInfo without a name"),
        (dt.time(tzinfo=Zone()), r"input\.tzinfo", "a Zone"),
    ],
)
def test_what_may_hold_more_than_it_shows_is_refused_with_its_place(x, place, what):
    with pytest.raises(TypeError, match=rf"^{place} is {what}.*pass key=.*or encoders="):
        key(x)


# Types of the user's own


class Box:
    def __init__(self, inside):
        self.inside = inside


class Crate(Box):
    pass


def test_encoders_tell_how_to_see_a_type_wherever_it_stands():
    own = by(None, {Box: lambda box: box.inside, Crate: lambda crate: crate.inside})
    look_alikes = [Box(1), Crate(1), Box(Box(1)), Box([1]), [Box(1)], {"a": Box(1)}, Point(Box(1))]

    assert len({own(x) for x in look_alikes}) == len(look_alikes)
    assert own({"a": [Box(np.ones(3))]}) == own({"a": [Box(np.ones(3))]})
    assert own(1) == key(1)


def test_an_encoder_is_for_its_type_alone():
    own = by(lambda x: x["input"], {Box: lambda box: box.inside})
    with pytest.raises(TypeError, match=r"^input\[1\] is a Crate, which has no key"):
        own({"input": [Box(1), Crate(1)]})
    with pytest.raises(TypeError, match=r"^input\[0\] is a set, which has no key"):
        own({"input": [Box({1})]})


def test_a_function_gives_the_key_without_encoders_as_well():
    assert by(lambda box: box.inside, None)(Box(1)) == key(1)
    assert by(None, None) is key


@pytest.mark.parametrize("own", [{"Box": str}, {Box: "inside"}])
def test_encoders_are_functions_by_type(own):
    with pytest.raises(TypeError, match=r"pass functions by type"):
        by(None, own)


@pytest.mark.parametrize("kind", [float, Decimal])
def test_what_has_a_key_has_no_other(kind):
    with pytest.raises(ValueError, match=rf"encoders= of {kind.__name__}, which has a key: pass"):
        by(None, {kind: round})
