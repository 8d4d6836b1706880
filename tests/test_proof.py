"""What looks for bugs finds those that are there."""

import asyncio

import pytest

from tests import schedules
from tests.mutants.__main__ import bugs, mirror
from tests.mutants._bug import PACKAGE, Bug
from tests.support.virtual import here


class TestSchedules:
    def test_every_seed_of_every_trial_is_explored_once(self):
        asked = list(schedules.chunks(["a", "b"], 5, 1001))

        explored = [(name, seed) for name, seeds in asked for seed in seeds]
        assert len(set(explored)) == len(explored) == 1001
        assert {seed for name, seed in explored if name == "a"} == set(range(5, 506))
        assert {seed for name, seed in explored if name == "b"} == set(range(5, 505))

    def test_what_is_found_is_named_by_its_seed_and_found_again(self, monkeypatch):
        async def main():
            order = []
            tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(2)]
            for task in tasks:
                task.add_done_callback(lambda task: order.append(tasks.index(task)))
            await asyncio.sleep(1.0)
            assert order == [0, 1], here().seed

        monkeypatch.setitem(schedules.TRIALS, "broken", (main, {}))

        _, ran, found = schedules.explored("broken", range(50))
        assert ran == 50
        assert 0 < len(found) < 50
        for seed, text in found:
            assert f"AssertionError: {seed}" in text
            assert schedules.explored("broken", [seed]) == ("broken", 1, [(seed, text)])


class TestBugs:
    @pytest.mark.parametrize("bug", bugs(), ids=lambda bug: f"{bug.file}: {bug.why}")
    def test_each_can_be_seeded(self, bug):
        assert bug.place.startswith(bug.file)
        assert bug.old != bug.new
        compile((PACKAGE / bug.file).read_text().replace(bug.old, bug.new), bug.file, "exec")

    def test_there_are_enough_and_no_two_alike(self):
        assert len(bugs()) >= 40
        assert len({(bug.file, bug.old, bug.new) for bug in bugs()}) == len(bugs())

    @pytest.mark.parametrize("old", ["no such text", "import "])
    def test_one_whose_text_is_not_there_once_is_refused(self, old):
        with pytest.raises(LookupError, match="must have it once"):
            _ = Bug("errors.py", old, "", "because").place

    def test_one_is_taken_out_again(self, tmp_path):
        (tmp_path / "a.py").write_text("x = 1\n")

        with Bug("a.py", "x = 1", "x = 2", "because").seeded(tmp_path):
            assert (tmp_path / "a.py").read_text() == "x = 2\n"
        assert (tmp_path / "a.py").read_text() == "x = 1\n"

    def test_the_tests_of_a_file_are_those_called_as_it_is(self):
        found = mirror("batcher/_tasks.py")

        assert found[0] == "tests/batcher/test_tasks.py"
        assert "tests/batcher/test_tasks_end.py" in found
        assert mirror("nothing.py") == []
