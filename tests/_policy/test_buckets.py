"""Who gets what: golden vectors that hold for ever, and the laws behind them."""

import itertools
import math
import re
from collections import Counter
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
GOLDEN = [  # unit, its bucket in HALVES, and who gets it of CANARY, HALVES, THREE and FIVE
    ("user-0", 4398009976410961568, "stable stable blue b"),
    ("user-1", 15602896830189207762, "stable candidate stable b"),
    ("user-2", 2552881259338256678, "stable candidate stable b"),
    ("user-3", 9146471197978700261, "stable stable stable d"),
    ("user-4", 17531797984822966110, "stable candidate blue b"),
    ("user-5", 15964120169630004677, "stable stable stable c"),
    ("user-6", 13138866640883539457, "stable candidate green d"),
    ("user-7", 13289270436713750150, "stable candidate blue c"),
    ("user-8", 5249009946378951640, "stable stable stable b"),
    ("user-9", 10040776305934359423, "stable stable stable d"),
    ("", 16486988661825631022, "stable stable stable d"),
    ("é", 8198504263961047995, "stable candidate blue a"),
    ("\ud800", 9680519370778036773, "stable candidate blue a"),
    ("x" * 200, 16432222996974467968, "stable candidate green c"),
]
GOLDEN_CROWDS = [  # the first of a digest of the variants of 20,000 units
    (CANARY, "8eab8e79c6c8e1f7"),
    (HALVES, "cdbc568c44eac018"),
    (THREE, "c6b9338839e10203"),
    (FIVE, "4663b0d9da1ebd7e"),
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
    assert buckets(HALVES).choose(unit)[1] == bucket


@pytest.mark.parametrize(("weights", "digest"), GOLDEN_CROWDS)
def test_golden_crowds(weights, digest):
    told = " ".join(map(chooser(weights), UNITS)).encode()

    assert blake2b(told, digest_size=8).hexdigest() == digest


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
    for edge in (0, BUCKETS - 1):
        split._arms = [(index, FallsTo(edge), weight) for index, _, weight in split._arms]
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


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("u", [0.2, 0.5, 0.9])
def test_between_two_the_hashes_and_the_shares_decide(share, u):
    split = buckets({"a": share, "b": 1 - share})
    [(_, _, a), (_, _, b)] = split._arms
    level = u ** (share / (1 - share))  # where the hash of a is as good as one of u of b
    found = []
    for factor in (1 - 1e-9, 1 + 1e-9):
        beside = FallsTo(int(level * factor * BUCKETS))
        split._arms = [(0, beside, a), (1, FallsTo(int(u * BUCKETS)), b)]
        found.append("ab"[split.choose("any")[0]])

    assert found == ["b", "a"]


def test_equal_hashes_go_by_name_and_not_by_order():
    for names in ("ab", "ba"):
        split = buckets(dict.fromkeys(names, 0.5))
        split._arms = [(index, FallsTo(7), weight) for index, _, weight in split._arms]
        assert names[split.choose("any")[0]] == "a"


@pytest.mark.parametrize("share", [1e-3, 1e-4, 1e-5])
def test_a_small_share_of_two_is_kept(share):
    split = buckets({"rare": share, "usual": 1 - share})
    found = sum(split.choose(f"u{i}")[0] == 0 for i in range(200_000))
    expected = 200_000 * share

    assert abs(found - expected) < 4 * math.sqrt(expected)


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


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (HALVES, {"stable": 0.4, "candidate": 0.4, "third": 0.2}),
        (HALVES, {"another": 0.2, "stable": 0.4, "candidate": 0.4}),
        (CANARY, {"stable": 0.85, "candidate": 0.05, "third": 0.1}),
        (THREE, {"stable": 6 / 7, "blue": 0.0, "green": 1 / 7}),
        (THREE, {"stable": 6 / 7, "green": 1 / 7}),
        (THREE, {"stable": 0.55, "blue": 0.25, "green": 0.1, "red": 0.1}),
        (FIVE, dict.fromkeys("abcd", 0.25)),
        (FIVE, {"a": 0.24, "b": 0.19, "c": 0.19, "d": 0.19, "e": 0.19}),
        ({"only": 1.0}, {"only": 0.9, "second": 0.1}),
    ],
)
def test_variants_that_come_go_or_grow_move_hardly_more_than_they_must(before, after):
    was, now = chooser(before), chooser(after)
    moved = [(was(unit), now(unit)) for unit in UNITS if was(unit) != now(unit)]
    least = sum(max(0.0, share - before.get(name, 0.0)) for name, share in after.items())

    assert len(moved) < 1.25 * least * len(UNITS)
    assert all(
        after[new] * before[old] > after.get(old, 0.0) * before.get(new, 0.0) for old, new in moved
    )


def test_from_two_to_three_nobody_changes_sides():
    was, now = chooser(HALVES), chooser({"stable": 0.3, "candidate": 0.3, "third": 0.4})
    moved = Counter((was(unit), now(unit)) for unit in UNITS)

    assert moved["stable", "candidate"] == moved["candidate", "stable"] == 0
    assert moved["stable", "third"] > 0
    assert moved["candidate", "third"] > 0


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
