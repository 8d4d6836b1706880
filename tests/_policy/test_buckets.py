"""Who gets what: golden vectors that hold for ever, and the laws behind them."""

import itertools
import math
import re
from collections import Counter
from fractions import Fraction
from hashlib import blake2b

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from modelserve._policy.buckets import BUCKETS, Buckets, pick, shares
from tests.support.processes import fresh

SALT = "ranker-2026-11"
UNITS = [f"user-{i}" for i in range(20_000)]

CANARY = {"stable": 0.95, "candidate": 0.05}
HALVES = {"stable": 0.5, "candidate": 0.5}
THREE = {"stable": 0.6, "blue": 0.3, "green": 0.1}
FIVE = dict.fromkeys("abcde", 0.2)
GOLDEN = [  # unit, bucket, and who gets it of CANARY, HALVES, THREE and FIVE
    ("user-0", 5885447502672453628, "stable candidate blue b"),
    ("user-1", 16970250899829234252, "stable stable stable b"),
    ("user-2", 761139064426449231, "candidate candidate stable b"),
    ("user-3", 4314393455366590295, "stable candidate stable d"),
    ("user-4", 11305875450469929745, "stable stable blue b"),
    ("user-5", 8328391499945073210, "stable candidate stable c"),
    ("user-6", 11940404626129935924, "stable stable green d"),
    ("user-7", 8488496751535598404, "stable candidate blue c"),
    ("user-8", 12276641960147226107, "stable stable stable b"),
    ("user-9", 16293151516127795648, "stable stable stable d"),
    ("", 6974157907718421305, "stable candidate stable d"),
    ("é", 8450177919335212923, "stable candidate blue a"),
    ("\ud800", 10130646595595973158, "stable stable blue a"),
    ("x" * 200, 4590024124520958745, "stable candidate green c"),
]


def buckets(weights, salt=SALT):
    return Buckets(salt, tuple(weights), tuple(weights.values()))


def chooser(weights, salt=SALT):
    """Return a function from units to names."""
    names, split = tuple(weights), buckets(weights, salt)
    return lambda unit: names[split.choose(unit)[0]]


@pytest.mark.parametrize(("unit", "bucket", "names"), GOLDEN)
def test_golden_vectors(unit, bucket, names):
    splits = [CANARY, HALVES, THREE, FIVE]

    assert [chooser(weights)(unit) for weights in splits] == names.split()
    assert [buckets(weights).choose(unit)[1] for weights in splits] == [bucket] * 4


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_another_process_agrees(seed):
    code = f"""
from modelserve._policy.buckets import Buckets
for names, weights in {[(tuple(w), tuple(w.values())) for w in (CANARY, THREE)]}:
    split = Buckets({SALT!r}, names, weights)
    print(*(names[split.choose("user-%d" % i)[0]] for i in range(10)))
"""
    told = fresh(code, env={"PYTHONHASHSEED": seed}).splitlines()
    golden = [names.split() for _, _, names in GOLDEN[:10]]

    assert told == [" ".join(row[0] for row in golden), " ".join(row[2] for row in golden)]


def by_definition(salt, weights, unit):
    """The split in the plainest words there are."""

    def hashed(*prefix):
        parts = [text.encode("utf-8", "surrogatepass") for text in prefix]
        message = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
        message += unit.encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(message, digest_size=8).digest(), "little")

    def score(name):
        return -math.log((hashed(salt, name) + 0.5) / 2**64) / weights[name]

    if len(weights) == 2:
        first, second = sorted(weights)
        return first if hashed(salt) < Fraction(weights[first]) * 2**64 else second
    return min((name for name in weights if weights[name]), key=score)


texts = st.text(st.characters(), max_size=20)


@st.composite
def splits(draw, min_size=1, max_size=5):
    names = draw(st.lists(texts, min_size=min_size, max_size=max_size, unique=True))
    parts = draw(st.tuples(*[st.integers(0, 100)] * len(names)))
    assume(sum(parts))
    return {name: part / sum(parts) for name, part in zip(names, parts, strict=True)}


@given(salt=texts, weights=splits(), unit=texts)
@example(salt="demo", weights={"b": 0.5, "a": 0.5}, unit="user-42")
def test_the_split_is_as_defined(salt, weights, unit):
    assert chooser(weights, salt)(unit) == by_definition(salt, weights, unit)


@given(weights=splits(), unit=texts, shuffled=st.randoms(use_true_random=False))
def test_the_order_of_variants_does_not_matter(weights, unit, shuffled):
    names = list(weights)
    shuffled.shuffle(names)
    other = {name: weights[name] for name in names}

    assert chooser(other)(unit) == chooser(weights)(unit)


def test_salt_and_unit_do_not_run_into_each_other():
    assert buckets(HALVES, "ab").choose("c") != buckets(HALVES, "a").choose("bc")
    assert buckets(THREE, "ab").choose("c") != buckets(THREE, "a").choose("bc")


@pytest.mark.parametrize(
    "weights",
    [
        {"a": 0.0, "b": 1.0},
        {"a": 1.0, "b": 0.0},
        {"b": 1.0, "a": 0.0},
        {"a": 0.0, "b": 1.0 - 1e-10},
        {"a": 1.0 - 1e-10, "b": 0.0},
        {"a": 1.0, "b": 0.0, "c": 0.0},
        {"a": 0.0, "b": 0.0, "c": 1.0},
        {"a": 0.0, "b": 1.0, "c": 0.0, "d": 0.0},
        {"a": 1.0},
    ],
)
def test_a_weight_of_nothing_gets_nobody_and_of_all_everybody(weights):
    [everybody] = [name for name, weight in weights.items() if weight]

    assert {chooser(weights)(unit) for unit in UNITS[:2_000]} == {everybody}
    split = buckets(weights)
    split._base = FallsTo(BUCKETS - 1)
    split._arms = [(index, FallsTo(BUCKETS - 1), weight) for index, _, weight in split._arms]
    assert tuple(weights)[split.choose("any")[0]] == everybody


class FallsTo:
    """The hash of a unit that falls where the test says."""

    def __init__(self, bucket):
        self._raw = bucket.to_bytes(8, "little")

    def copy(self):
        return self

    def update(self, raw):
        pass

    def digest(self):
        return self._raw


@pytest.mark.parametrize("share", [1e-5, 2**-40, 0.3, 1 - 1e-5, 1 - 2**-40])
@pytest.mark.parametrize("names", ["ab", "ba"])
def test_a_share_ends_at_its_bucket_and_not_beside_it(share, names):
    split = buckets({name: {"a": share, "b": 1 - share}[name] for name in names})
    end = round(share * BUCKETS)
    found = []
    for bucket in (0, end - 1, end, BUCKETS - 1):
        split._base = FallsTo(bucket)
        found.append(names[split.choose("any")[0]])

    assert found == ["a", "a", "b", "b"]


def test_a_share_of_one_in_a_thousand_is_kept_among_three():
    rare = chooser({"rare": 1e-3, "usual": 0.5, "other": 0.499})
    found = sum(rare(f"u{i}") == "rare" for i in range(50_000))

    assert 30 < found < 75


def chi_square(counts, expected):
    return sum((counts[key] - want) ** 2 / want for key, want in expected.items())


@pytest.mark.parametrize("salt", [SALT, "another", ""])
@pytest.mark.parametrize(
    ("weights", "limit"),  # which one in a thousand fair splits exceeds
    [(CANARY, 10.83), (HALVES, 10.83), (THREE, 13.82), (FIVE, 18.47)],
)
def test_shares_are_what_they_should_be(weights, limit, salt):
    counts = Counter(map(chooser(weights, salt), UNITS))

    assert chi_square(counts, {k: w * len(UNITS) for k, w in weights.items()}) < limit


@pytest.mark.parametrize(
    ("weights", "limit"), [(HALVES, 16.27), (CANARY, 16.27), (THREE, 26.12), (FIVE, 51.18)]
)
def test_another_salt_makes_an_independent_split(weights, limit):
    one, other = chooser(weights, "experiment-1"), chooser(weights, "experiment-2")
    counts = Counter((one(unit), other(unit)) for unit in UNITS)
    expected = {
        (a, b): weights[a] * weights[b] * len(UNITS)
        for a, b in itertools.product(weights, repeat=2)
    }

    assert chi_square(counts, expected) < limit


units = st.integers(0, len(UNITS) - 1).map(UNITS.__getitem__)
share = st.floats(0, 1, allow_subnormal=False)


@given(unit=units, small=share, large=share)
def test_a_share_that_grows_keeps_everybody_it_had(unit, small, large):
    small, large = sorted([small, large])
    before = chooser({"candidate": small, "stable": 1 - small})
    after = chooser({"candidate": large, "stable": 1 - large})

    assert (before(unit), after(unit)) != ("candidate", "stable")


def test_a_ramp_of_two_moves_only_who_must_move():
    steps = [chooser({"candidate": s, "stable": 1 - s}) for s in (0.01, 0.05, 0.25, 0.5, 1.0)]
    for before, after in itertools.pairwise(steps):
        moved = Counter((before(unit), after(unit)) for unit in UNITS[:5_000])

        assert moved["candidate", "stable"] == 0
        assert moved["stable", "candidate"] > 0


@given(before=splits(3, 3), after=splits(3, 3), unit=units)
def test_a_unit_moves_only_to_a_share_that_grew_more(before, after, unit):
    after = dict(zip(before, after.values(), strict=True))
    old, new = chooser(before)(unit), chooser(after)(unit)

    assert old == new or after[new] * before[old] > after[old] * before[new] * (1 - 1e-9)


def test_only_the_units_of_a_variant_that_ends_move():
    after = {"stable": 6 / 7, "blue": 0.0, "green": 1 / 7}
    was, now = chooser(THREE), chooser(after)
    moved = [unit for unit in UNITS[:5_000] if was(unit) != now(unit)]

    assert {was(unit) for unit in moved} == {"blue"}
    assert len(moved) == sum(was(unit) == "blue" for unit in UNITS[:5_000])


weight_lists = st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any)


@given(
    parts=weight_lists,
    u=st.floats(0, 1, exclude_max=True) | st.just(math.nextafter(1, 0)),
)
@example(parts=[1] * 6, u=math.nextafter(1, 0))
def test_a_draw_falls_to_the_share_it_lies_in(parts, u):
    weights = [part / sum(parts) for part in parts]
    index = pick(weights, u)
    below = sum(weights[:index])

    assert weights[index] > 0
    assert below - 1e-12 <= u <= below + weights[index] + 1e-12


def test_a_draw_past_the_sum_of_rounded_weights_falls_to_the_last_that_has_any():
    assert pick([0.5, 0.5 - 1e-10, 0.0], 1 - 1e-11) == 1


@given(parts=weight_lists)
def test_good_weights_are_taken_as_they_are(parts):
    weights = [part / sum(parts) for part in parts]
    names = [f"v{i}" for i in range(len(parts))]

    assert shares(names, weights) == tuple(weights)


@given(
    size=st.integers(1, 5),
    place=st.integers(0, 4),
    bad=st.floats().filter(lambda w: not 0 <= w <= 1),
)
def test_what_is_no_share_is_refused_by_name(size, place, bad):
    names = [f"v{i}" for i in range(size)]
    weights = [1.0 / size] * size
    weights[place % size] = bad

    with pytest.raises(ValueError, match=re.escape(f"weight={bad} of variant 'v{place % size}'")):
        shares(names, weights)


@given(weights=st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_weights_that_do_not_sum_to_one_are_refused(weights):
    assume(abs(math.fsum(weights) - 1) > 1e-8)
    names = [f"v{i}" for i in range(len(weights))]

    with pytest.raises(ValueError, match=r"the weights sum to .* and not to 1: \{'v0'"):
        shares(names, weights)


def test_a_sum_that_is_only_nearly_one_is_shown_as_such():
    with pytest.raises(ValueError, match=r"sum to 1\.00001 and not to 1"):
        shares(["a", "b"], [0.5, 0.50001])


def test_no_weights_are_equal_shares():
    assert shares(["a", "b", "c", "d"], [None] * 4) == (0.25,) * 4


def test_weights_of_some_are_refused():
    with pytest.raises(ValueError, match="variant 'b' has no weight and others do: give all or"):
        shares(["a", "b"], [1.0, None])


def test_weights_come_back_as_plain_floats():
    assert [type(weight) for weight in shares(["a", "b"], [1, 0])] == [float, float]
