"""Whatever happens, every accepted call ends once, with its own answer or its own error."""

import pytest

from tests.batcher.trials import TRIALS
from tests.storm import FACES, SERVICES, Left, Poison, Storm, answer
from tests.support.virtual import explore, run

SCHEDULES = range(300)
REQUESTS = 3000


@pytest.mark.parametrize("name", TRIALS)
def test_no_schedule_loses_swaps_doubles_or_holds_back_a_call(name):
    main, options = TRIALS[name]
    explore(main, SCHEDULES, **options)


@pytest.mark.parametrize("name", TRIALS)
def test_the_same_seed_tells_the_same_story(name):
    main, options = TRIALS[name]

    first = [run(main, seed=seed, **options) for seed in range(60)]
    again = [run(main, seed=seed, **options) for seed in range(60)]

    assert first == again
    assert len({str(story) for story in first}) == len(first)


@pytest.mark.parametrize(("colour", "faces", "options"), SERVICES)
def test_a_storm_of_callers_of_every_kind_loses_swaps_doubles_or_hurts_nothing(
    colour, faces, options
):
    storm = Storm(colour, faces, REQUESTS, **options)

    assert storm.blow() == {}
    assert len(storm.ends) == REQUESTS
    assert {"answer", "Poison", "OSError", "Stuck"} <= set(storm.ends.values())


class TestStorm:
    """What it takes for a fault is one."""

    @pytest.mark.parametrize(
        ("endings", "fault"),
        [
            ([answer(2)], "swapped"),
            ([answer(1), answer(1)], "answered twice"),
            ([answer(1), Left()], "answered twice"),
            ([Poison()], "hurt by another"),
            ([OSError()], "hurt by another"),
            ([TypeError()], "hurt by another"),
            ([None], "hurt by another"),
        ],
    )
    def test_it_notices_a_wrong_ending(self, endings, fault):
        storm = Storm("sync", FACES, 10)
        storm.model.fates[1] = "fine"

        for ending in endings:
            storm.note(1, ending)

        assert +storm.faults == {fault: 1}

    @pytest.mark.parametrize(("fate", "ending"), [("poison", answer(1)), ("odd", answer(1))])
    def test_it_notices_an_answer_where_there_can_be_none(self, fate, ending):
        storm = Storm("sync", FACES, 10)
        storm.model.fates[1] = fate

        storm.note(1, ending)

        assert +storm.faults == {"hurt by another": 1}

    def test_it_notices_calls_that_never_end_and_items_that_run_twice(self):
        storm = Storm("sync", FACES, 10)
        storm.model.fates[:] = ["fine"] * 10

        storm.model.sync([1, 2])
        storm.model.sync([2, 3])
        storm.judge()

        assert +storm.faults == {"lost": 10, "run twice": 1}
