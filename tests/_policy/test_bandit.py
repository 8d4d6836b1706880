"""A bandit draws by its shares, and says by which."""

from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.arms import Arms
from modelserve._policy.bandit import Bandit

three = st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(any)


@given(parts=three, u=st.floats(0, 1, exclude_max=True))
def test_the_arm_lies_where_the_number_falls_and_its_propensity_is_its_share(parts, u):
    shares = [part / sum(parts) for part in parts]
    bandit = Bandit(Arms(3, low=0.0, high=1.0), lambda arms: shares)
    index, propensity = bandit.choose(u)

    assert propensity == shares[index] > 0
    assert sum(shares[:index]) - 1e-9 <= u <= sum(shares[: index + 1]) + 1e-9
    assert bandit.shares() == shares


def test_tries_and_rewards_reach_the_arms():
    bandit = Bandit(Arms(2, low=0.0, high=2.0), lambda arms: [0.5, 0.5])
    bandit.tried(1)
    bandit.update(1, 1.0)

    assert (bandit.arms.tries, bandit.arms.mean) == ([0, 1], [0.0, 0.5])
