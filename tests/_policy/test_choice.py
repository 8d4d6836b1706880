"""Who answers next: one with the least to do, in turn."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.choice import least

loads = st.lists(st.integers(0, 5), min_size=1, max_size=6)


@given(loads, st.integers(0, 1000))
def test_nobody_has_less_to_do(outstanding, turn):
    assert outstanding[least(outstanding, turn)] == min(outstanding)


@given(st.integers(1, 6), st.integers(0, 1000), st.integers(1, 5))
def test_equals_take_turns(n, turn, rounds):
    chosen = Counter(least([0] * n, turn + i) for i in range(rounds * n))

    assert chosen == dict.fromkeys(range(n), rounds)
