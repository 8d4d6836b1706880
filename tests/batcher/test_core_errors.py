import asyncio
import concurrent.futures
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import modelserve as ms
from modelserve.testing import FakeClock
from tests.batcher.asking import (
    LIMIT,
    as_is,
    both,
    one_batch,
    outcome,
    refusing,
    same,
    tenfold,
    together,
)


def recorded(fn, calls, colour=as_is):
    """Make a batch function that notes the batches it is called with."""

    def noted(xs):
        calls.append(list(xs))
        return fn(xs)

    return colour(noted)


def errors_of(outcomes):
    assert all(isinstance(o, BaseException) for o in outcomes), outcomes
    return outcomes


# Results


@both
def test_each_caller_gets_its_own_result(colour):
    calls = []
    answers = together(recorded(tenfold, calls, colour), range(8))

    assert (answers, calls) == ([0, 10, 20, 30, 40, 50, 60, 70], [list(range(8))])


@both
def test_two_callers_of_two_outputs_get_both_each(colour):
    items = [np.array([1.0, 2.0]), np.array([3.0, 4.0])]
    answers = together(colour(lambda rows: (rows.sum(axis=1), rows.prod(axis=1))), items)

    assert answers == [(3.0, 2.0), (7.0, 12.0)]


@both
@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([1, 2], "'rank' returned a list of 2 for 3 items"),
        ([1, 2, 3, 4], "'rank' returned a list of 4 for 3 items"),
        (None, "'rank' returned None for 3 items"),
        (np.zeros((2, 3)), "'rank' returned a first axis of 2 for 3 items"),
        ([np.zeros(3), np.zeros(3)], "return several outputs as a tuple or dict"),
        (1.5, "'rank' returned float for 3 items"),
    ],
    ids=repr,
)
def test_a_wrong_number_of_results_is_nobodys_answer(colour, result, message):
    calls = []
    answers = together(recorded(lambda _: result, calls, colour), range(3), name="rank")

    assert [type(error) for error in answers] == [ms.BadOutput] * 3
    assert all(message in str(error) for error in answers)
    assert len(calls) == 1


class Short:
    """A layout that loses a result."""

    def lane(self, item):
        return None

    def join(self, items):
        return items

    def cut(self, result, n):
        return result[1:]

    def __repr__(self):
        return "Short()"


def test_a_layout_that_loses_a_result_is_nobodys_answer():
    answers = together(same, range(3), layout=Short(), name="rank")

    assert [str(error) for error in errors_of(answers)] == [
        "Short() of 'rank' cut 2 results for 3 items"
    ] * 3


# Errors


@both
@pytest.mark.parametrize("bad", range(7))
def test_a_bad_item_fails_alone(colour, bad):
    calls = []
    error = KeyError("poison")
    answers = together(recorded(refusing({bad}, error), calls, colour), range(7))

    assert isinstance(answers.pop(bad), KeyError)
    assert answers == [x * 10 for x in range(7) if x != bad]
    assert len(calls) <= 1 + 2 * math.ceil(math.log2(7))


@given(n=st.integers(1, 12), data=st.data())
def test_bad_items_fail_alone_however_many(n, data):
    bad = data.draw(st.sets(st.integers(0, n - 1)))
    calls = []
    answers = together(recorded(refusing(bad, ValueError("poison")), calls), range(n))

    assert [isinstance(answer, ValueError) for answer in answers] == [x in bad for x in range(n)]
    assert [answer for answer in answers if isinstance(answer, int)] == [
        x * 10 for x in range(n) if x not in bad
    ]
    assert len(calls) <= 2 * n - 1
    assert [call for call in calls if len(call) == 1] == sorted(
        call for call in calls if len(call) == 1
    )


@both
@pytest.mark.parametrize(
    "error",
    [
        OSError("disk"),
        TimeoutError("network"),
        ms.BadInput("wrong"),
        ms.Overloaded("later"),
        ms.DeadlineExceeded("late"),
    ],
    ids=repr,
)
def test_what_is_no_items_fault_is_not_tried_again(colour, error):
    calls = []
    answers = together(recorded(refusing({0}, error), calls, colour), range(4))

    assert [type(each) for each in answers] == [type(error)] * 4
    assert len(calls) == 1


@both
def test_a_function_that_must_not_run_twice_fails_its_whole_batch(colour):
    calls = []
    predict = recorded(refusing({0}, ValueError("poison")), calls, colour)
    answers = together(predict, range(4), on_error="batch")

    assert [type(error) for error in answers] == [ValueError] * 4
    assert len(calls) == 1


@both
def test_an_error_among_the_results_fails_its_own_item(colour):
    calls = []
    predict = recorded(lambda xs: [ValueError("odd") if x % 2 else x for x in xs], calls, colour)
    zero, one, two, three = together(predict, range(4), name="rank")

    assert (zero, two, len(calls)) == (0, 2, 1)
    assert [(type(e), e.args, e.__notes__) for e in (one, three)] == [
        (ValueError, ("odd",), ["raised in 'rank'"])
    ] * 2


@both
def test_callers_that_share_a_failure_get_an_instance_each(colour):
    failure = OSError(5, "disk")
    failure.__cause__ = KeyError("why")
    errors = errors_of(together(colour(refusing({0}, failure)), range(4), name="rank"))

    assert len({id(error) for error in [failure, *errors]}) == 5
    assert len({id(error.__notes__) for error in errors}) == 4
    for error in errors:
        assert (error.args, error.errno) == ((5, "disk"), 5)
        assert isinstance(error.__cause__, KeyError)
        assert "raised in 'rank'" in error.__notes__
        assert error.__traceback__ is not None


@both
def test_one_error_given_to_several_items_is_an_instance_each(colour):
    failure = ValueError("same")
    one, two = together(colour(lambda xs: [failure] * len(xs)), range(2))

    assert type(one) is type(two) is ValueError
    assert len({id(failure), id(one), id(two)}) == 3


FATAL = [StopIteration(1), StopAsyncIteration(), SystemExit(3), asyncio.CancelledError("model")]


@both
@pytest.mark.parametrize("error", FATAL, ids=repr)
def test_what_would_end_a_worker_is_an_error_like_any_other(colour, error):
    p = one_batch(colour(refusing({0}, error)), 1)
    first = outcome(p.submit(0))

    assert isinstance(first, RuntimeError)
    assert not isinstance(first, ms.ModelServeError)
    assert type(error).__name__ in str(first)
    assert outcome(p.submit(1)) == 10


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_not_even_an_interrupt_in_a_model_ends_a_worker(error):
    first, second = together(refusing({0}, error), range(2))
    p = one_batch(refusing({0}, error), 1)

    assert isinstance(first, RuntimeError)
    assert isinstance(second, RuntimeError)
    assert isinstance(outcome(p.submit(0)), RuntimeError)
    assert outcome(p.submit(1)) == 10


@both
def test_an_error_returned_as_a_result_may_be_one_that_ends_things(colour):
    one, two = together(colour(lambda _: [StopIteration(1), "fine"]), range(2))

    assert isinstance(one, RuntimeError)
    assert two == "fine"


class Unprintable(BaseException):
    def __str__(self):
        raise RuntimeError("no text")


class Unnotable(ValueError):
    def add_note(self, note):
        raise RuntimeError("no notes")


@both
@pytest.mark.parametrize("error", [Unprintable(), Unnotable()], ids=["text", "notes"])
def test_nobody_hangs_on_an_error_that_itself_fails(colour, error):
    p = one_batch(colour(refusing({0, 1}, error)), 2, name="rank")
    first, second = [outcome(future) for future in [p.submit(0), p.submit(1)]]

    assert {type(first), type(second)} <= {type(error), RuntimeError}
    assert first is not second
    assert [outcome(f) for f in [p.submit(2), p.submit(3)]] == [20, 30]


@both
def test_a_result_that_cannot_be_handed_out_hurts_only_itself(colour):
    answers = together(colour(lambda xs: [Unnotable() if x == 1 else x for x in xs]), range(4))

    assert [answers[0], *answers[2:]] == [0, 2, 3]
    assert isinstance(answers[1], Unnotable | RuntimeError)


def exit_hook(event):
    raise SystemExit(3)


@both
def test_nobody_hangs_on_a_hook_that_wants_to_exit(colour):
    p = one_batch(colour(same), 2, on_event=exit_hook, name="rank")
    errors = [outcome(future) for future in [p.submit(0), p.submit(1)]]

    assert [str(error) for error in errors_of(errors)] == ["'rank' could not finish a batch"] * 2
    assert isinstance(errors[0].__cause__, SystemExit)
    assert outcome(one_batch(colour(same), 1).submit(5)) == 5


@both
def test_a_failing_callback_of_one_future_does_not_keep_the_others_waiting(colour, caplog):
    p = one_batch(colour(same), 3)
    futures = [p.submit(0)]
    futures[0].add_done_callback(exit_hook)
    futures += [p.submit(1), p.submit(2)]

    assert [outcome(future) for future in futures] == [0, 1, 2]
    assert [outcome(f) for f in [p.submit(n) for n in range(3)]] == [0, 1, 2]
    assert caplog.messages[0].startswith("a callback of <Future")


def test_a_batch_that_cannot_be_joined_fails_item_by_item():
    class Picky(Short):
        def join(self, items):
            if "bad" in items:
                raise ValueError("cannot join that")
            return items

        def cut(self, result, n):
            return result

    answers = together(same, ["a", "bad", "c"], layout=Picky())

    assert answers[::2] == ["a", "c"]
    assert isinstance(answers[1], ValueError)


def test_an_item_without_a_usable_lane_is_not_accepted():
    class Listed(Short):
        def lane(self, item):
            return [item]

    with ms.DynamicBatcher(same, layout=Listed()) as p:
        with pytest.raises(TypeError, match="unhashable"):
            p(1)
        assert (p.stats.calls, p.stats.queued) == (0, 0)


@both
def test_a_half_is_not_run_again_for_callers_that_are_gone(colour):
    clock = FakeClock()
    calls, futures = [], []

    def predict(xs):
        calls.append(list(xs))
        clock.advance(1.0)
        futures[2].cancel()
        raise ValueError("poison")

    p = one_batch(colour(predict), 4)
    with ms.request(timeout=1.0, clock=clock):
        futures += [p.submit(0), p.submit(1)]
    futures.append(p.submit(2))
    futures.append(p.submit(3))
    concurrent.futures.wait(futures, LIMIT)

    assert calls == [[0, 1, 2, 3], [3]]
    assert [type(outcome(futures[n])) for n in (0, 1, 3)] == [
        ms.DeadlineExceeded,
        ms.DeadlineExceeded,
        ValueError,
    ]
    assert futures[2].cancelled()
    assert (p.stats.expired, p.stats.abandoned) == (0, 0)  # those never ran
