"""How many calls may hang at once, and what becomes of callers then."""

import pytest

import modelserve as ms
from modelserve.batcher._watch import MOST
from tests.batcher.asking import LIMIT, outcome
from tests.batcher.hanging import BLINK, hung, watched

HANG = f"{MOST} calls of 'model' hang: no more are made"


def test_when_too_many_hang_new_calls_are_told_at_once(model, clock):
    p = watched(model, clock)
    told = all_hang(p, model, clock)

    assert [str(error) for error in told] == [HANG] * 3
    assert len({id(error) for error in told}) == 3
    assert len(model.calls) == MOST
    for face in (p, p.submit):
        with pytest.raises(ms.Stuck, match=HANG):
            face("more")
    assert p.stats.queued == 0


def all_hang(p, model, clock):
    """Let as many calls hang as may; return what those came to who were queued meanwhile."""
    for n in range(MOST - 1):
        assert isinstance(hung(p, model, clock), ms.Stuck), n
    p.submit("hangs")
    model.gate.wait_entered(MOST)
    queued = [p.submit(n) for n in range(3)]
    clock.advance(2 * BLINK)
    return [outcome(future) for future in queued]


def test_when_one_of_too_many_comes_back_calls_are_made_again(model, clock):
    p = watched(model, clock)
    all_hang(p, model, clock)
    model.gate.open_one()
    model.threads[0].join(LIMIT)

    assert not model.threads[0].is_alive()
    assert p("fine") == "fine"
    assert p.submit("too").result(LIMIT) == "too"


def test_a_batcher_of_which_too_many_hang_is_closed_and_opened_like_any_other(model, clock):
    p = watched(model, clock)
    all_hang(p, model, clock)
    p.close(timeout=LIMIT)
    with p, pytest.raises(ms.Stuck, match=HANG):
        p("more")
    model.gate.open()
    for thread in model.threads:
        thread.join(LIMIT)
    with p:
        assert p("fine") == "fine"
