"""The life of a tree: counted opens, parts first; closes, parents first."""

import asyncio
import threading

import pytest

from modelserve.predictor import Primitive, Spec
from modelserve.predictor._life import postorder
from tests.contract.calling import LIMIT, start


class Part(Primitive):
    """Tells when it starts and stops; ``fails`` says at which."""

    kind = "Part"

    def __init__(self, name, *parts, log, fails=()):
        super().__init__(name, {part.name: part for part in parts}, Spec(Part, parts, {}))
        self.log = log
        self.fails = set(fails)
        self.needed = False

    def _tell(self, what):
        self.log.append(f"{what} {self.name}")
        if what in self.fails:
            raise OSError(f"{what} {self.name}")

    def start(self):
        self._tell("start")

    def stop(self, drain, timeout):
        self.asked = drain, timeout
        self._tell("stop")

    def needs_this_loop(self):
        return self.needed


class Sides:
    """The sync and the async side of a life, under one name each."""

    def __init__(self, run):
        self._run = run

    def open(self, p):
        return self._run(p.open, p.aopen)

    def close(self, p, **options):
        return self._run(lambda: p.close(**options), lambda: p.aclose(**options))


sides = pytest.mark.parametrize(
    "side",
    [Sides(lambda sync, _: sync()), Sides(lambda _, start: asyncio.run(start()))],
    ids=["sync", "async"],
)


def tree(**fails):
    """Two parts over one that they share."""
    log = []
    bottom = Part("bottom", log=log, fails=fails.get("bottom", ()))
    left = Part("left", bottom, log=log, fails=fails.get("left", ()))
    right = Part("right", bottom, log=log, fails=fails.get("right", ()))
    return Part("top", left, right, log=log, fails=fails.get("top", ())), log


def opens(p):
    return {part.name: part.life.opens for part in postorder(p)}


def closed(p):
    return {part.name for part in postorder(p) if part.life.closed}


ALL = {"top", "left", "right", "bottom"}


def test_parts_come_before_what_they_are_parts_of_each_once():
    top, _ = tree()

    assert [part.name for part in postorder(top)] == ["bottom", "left", "right", "top"]


@sides
def test_parts_open_first_and_close_last(side):
    top, log = tree()
    side.open(top)
    side.close(top)

    assert log[:4] == ["start bottom", "start left", "start right", "start top"]
    assert log[4:] == ["stop top", "stop right", "stop left", "stop bottom"]


@sides
def test_opens_are_counted(side):
    top, log = tree()
    for _ in range(3):
        side.open(top)
    assert set(opens(top).values()) == {3}
    for _ in range(2):
        side.close(top)
        assert closed(top) == set()
    side.close(top)

    assert closed(top) == ALL
    assert [word for word in log if word.startswith("stop")] == log[-4:]


@sides
def test_a_part_of_two_trees_closes_with_the_last(side):
    top, log = tree()
    other = Part("other", top.parts["left"], log=log)
    side.open(top)
    side.open(other)
    side.close(top)
    assert closed(top) == {"top", "right"}
    side.close(top)
    assert closed(top) == {"top", "right"}
    side.close(other)

    assert closed(other) == {"other", "left", "bottom"}


@sides
def test_closing_what_was_never_opened_takes_nothing_from_others(side):
    top, log = tree()
    other = Part("other", top.parts["left"], log=log)
    side.open(top)
    side.close(other)
    side.close(other)

    assert closed(other) == {"other"}
    assert set(opens(top).values()) == {1}


@sides
def test_closing_what_was_never_opened_closes_it(side):
    top, log = tree()
    side.close(top)

    assert closed(top) == ALL
    assert log == ["stop top", "stop right", "stop left", "stop bottom"]


@sides
def test_closing_twice_stops_once(side):
    top, log = tree()
    side.open(top)
    side.close(top)
    before = list(log)
    side.close(top)

    assert log == before


@sides
def test_a_part_that_was_closed_alone_stays_so_when_its_parent_was_never_opened(side):
    top, log = tree()
    side.close(top.parts["left"])
    assert closed(top) == {"left", "bottom"}
    side.close(top)

    assert closed(top) == ALL
    assert log.count("stop left") == log.count("stop bottom") == 1


@sides
def test_a_closed_tree_opens_again(side):
    top, log = tree()
    side.close(top)
    side.open(top)
    assert closed(top) == set()
    side.close(top)

    assert closed(top) == ALL
    assert log.count("start bottom") == 1
    assert log.count("stop bottom") == 2


@sides
def test_a_failing_open_is_undone(side):
    top, log = tree(right=["start"])
    with pytest.raises(OSError, match="start right"):
        side.open(top)

    assert log == [
        "start bottom",
        "start left",
        "start right",
        "stop right",
        "stop left",
        "stop bottom",
    ]
    assert set(opens(top).values()) == {0}
    assert closed(top) == {"right", "left", "bottom"}


@sides
def test_a_failing_open_leaves_what_others_opened(side):
    top, _ = tree(right=["start"])
    side.open(top.parts["left"])
    with pytest.raises(OSError, match="start right"):
        side.open(top)

    assert opens(top) == {"top": 0, "right": 0, "left": 1, "bottom": 1}
    assert closed(top) == {"right"}


@sides
def test_a_failing_open_is_undone_though_that_fails_too(side):
    top, _ = tree(right=["start", "stop"], left=["stop"])
    with pytest.raises(OSError, match="start right"):
        side.open(top)

    assert closed(top) == {"right", "left", "bottom"}


@sides
def test_a_tree_opens_after_it_failed_to(side):
    top, _ = tree(right=["start"])
    with pytest.raises(OSError, match="start right"):
        side.open(top)
    top.parts["right"].fails.clear()
    side.open(top)

    assert closed(top) == set()
    assert set(opens(top).values()) == {1}


@sides
def test_all_parts_close_though_some_fail_and_the_first_failure_is_told(side):
    top, log = tree(right=["stop"], bottom=["stop"])
    side.open(top)
    with pytest.raises(OSError, match="stop right"):
        side.close(top)

    assert closed(top) == ALL
    assert log[4:] == ["stop top", "stop right", "stop left", "stop bottom"]


@sides
def test_close_hands_on_whether_to_drain_and_one_limit_for_all_parts(side):
    top, _ = tree()
    side.open(top)
    side.close(top, drain=False, timeout=LIMIT)
    asked = [part.asked for part in reversed(postorder(top))]

    assert {drain for drain, _ in asked} == {False}
    limits = [timeout for _, timeout in asked]
    assert limits == sorted(limits, reverse=True)
    assert limits[0] <= LIMIT
    assert limits[-1] < limits[0]

    side.open(top)
    side.close(top)
    assert {part.asked for part in postorder(top)} == {(True, None)}


def test_closing_where_a_part_needs_the_loop_is_refused_before_anything_is_closed():
    top, log = tree()
    top.open()
    top.parts["left"].needed = True
    with pytest.raises(RuntimeError, match=r"'left' .* `await p\.aclose\(\)`"):
        top.close()
    assert closed(top) == set()
    asyncio.run(top.aclose())

    assert closed(top) == ALL
    assert log.count("stop left") == 1


def test_a_part_that_stays_open_may_need_the_loop():
    top, _ = tree()
    top.open()
    top.parts["left"].open()
    top.parts["left"].needed = True
    top.close()
    assert closed(top) == {"top", "right"}
    top.close()

    other = Part("other", top.parts["left"], log=top.log)
    other.close()
    assert closed(other) == {"other"}


def test_with_opens_and_closes():
    top, _ = tree()
    with top as same:
        assert same is top
        assert set(opens(top).values()) == {1}
    assert closed(top) == ALL


def test_with_closes_after_an_error():
    top, _ = tree()
    with pytest.raises(KeyError), top:
        raise KeyError
    assert closed(top) == ALL


def test_async_with_opens_and_closes():
    async def main():
        async with top as same:
            assert same is top
            assert set(opens(top).values()) == {1}

    top, _ = tree()
    asyncio.run(main())
    assert closed(top) == ALL


def test_threads_that_close_at_once_undo_one_open():
    def close():
        together.wait()
        top.close()

    for _ in range(20):
        top, log = tree()
        other = Part("other", top.parts["left"], log=log)
        together = threading.Barrier(4, timeout=LIMIT)
        top.open()
        other.open()
        for thread in [start(close) for _ in range(4)]:
            thread.result(LIMIT)

        assert closed(top) == {"top", "right"}
        assert opens(other) == {"other": 1, "left": 1, "bottom": 1}


def test_threads_that_open_and_close_at_once_leave_it_as_it_was():
    def use():
        together.wait()
        for _ in range(50):
            with top:
                assert opens(top)["bottom"] >= 1

    top, _ = tree()
    together = threading.Barrier(8, timeout=LIMIT)
    with top:
        for thread in [start(use) for _ in range(8)]:
            thread.result(LIMIT)
        assert set(opens(top).values()) == {1}
