"""Who is asked for room when a load runs out of memory."""

import gc

from modelserve.predictor._relief import Reliefs


class Holder:
    def __init__(self, *, frees):
        self.asked = []
        self._frees = frees

    def relieve(self, device):
        self.asked.append(device)
        return self._frees


def test_all_are_asked_and_any_will_do():
    reliefs, rich, poor = Reliefs(), Holder(frees=True), Holder(frees=False)
    reliefs.add(poor)

    assert not reliefs("cuda:0")
    reliefs.add(rich)
    assert reliefs("cuda:1")
    assert (rich.asked, poor.asked) == (["cuda:1"], ["cuda:0", "cuda:1"])


def test_who_is_gone_is_not_asked():
    reliefs = Reliefs()
    reliefs.add(Holder(frees=True))
    gc.collect()

    assert not reliefs("cuda:0")


def test_a_child_asks_too_though_its_parent_was_asking():
    reliefs, holder = Reliefs(), Holder(frees=True)
    reliefs.add(holder)
    reliefs._lock.acquire()  # by a thread that the child does not have
    reliefs.after_fork()

    assert reliefs("cpu")
