"""The wait of all lanes is that of the oldest item, wherever it is."""

from modelserve._policy.lanes import Lanes


class Item:
    size = 1.0

    def __init__(self, at):
        self.at = at


def test_the_oldest_item_may_be_in_a_lane_that_is_not_the_oldest():
    lanes = Lanes(limit=2, max_wait=10.0)
    for lane, at in [("a", 0.0), ("b", 1.0), ("a", 2.0), ("a", 5.0)]:
        lanes.push(Item(at), lane=lane)

    assert [item.at for item in lanes.cut(now=5.0)] == [0.0, 2.0]

    assert lanes.wait(now=6.0) == 5.0
    assert [item.at for item in lanes.cut(now=11.0)] == [1.0]
