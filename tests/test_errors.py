"""The exception tree, notes, and one instance a caller of an error that several share."""

import asyncio
import copy
import dataclasses
import inspect
import json
import pickle
import subprocess
import traceback

import pytest

import modelserve as ms
from modelserve import errors
from modelserve.errors import from_model, own


def caught(fn, *args):
    """Return what a call raises, with the traceback that raising gave it."""
    try:
        fn(*args)
    except BaseException as error:  # noqa: BLE001 - it is what is asked for
        return error
    raise AssertionError("it raised nothing")


def throw(error):
    raise error


class NeedsKeyword(Exception):
    def __init__(self, reason, *, code):
        super().__init__(reason)
        self.code = code


class FormatsItsMessage(Exception):
    def __init__(self, what, hint=None):
        super().__init__(f"cannot do {what}")
        self.hint = hint


class TellsNothingToItsBase(Exception):
    def __init__(self, code):
        super().__init__()
        self.code = code


class KeepsInSlots(Exception):
    __slots__ = ("code",)

    def __init__(self, reason, *, code):
        super().__init__(reason)
        self.code = code


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class FileTrouble(OSError):
    def __init__(self, *args, part):
        super().__init__(*args)
        self.part = part


class Unreadable(UnicodeDecodeError):
    def __init__(self, *args, part):
        super().__init__(*args)
        self.part = part


class Reduces(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} {second}")
        self.pair = (first, second)

    def __reduce__(self):
        return Reduces, self.pair


class CopiesToItself(Exception):
    def __copy__(self):
        return self


class MadeOnce(Exception):
    """Neither copy nor ``__new__`` makes another."""

    made = 0

    def __new__(cls, *args):
        cls.made += 1
        if cls.made > 1:
            raise TypeError("one is enough")
        return super().__new__(cls, *args)


KINDS = {
    "plain": lambda: ValueError("bad", 3),
    "a missing key": lambda: caught({}.__getitem__, ("a", 1)),
    "a missing file": lambda: caught(open, "there-is-no-such-file"),
    "a missing attribute": lambda: caught(getattr, "text", "absent"),
    "a missing module": lambda: caught(__import__, "there_is_no_such_module"),
    "bad text": lambda: caught(b"\xff".decode, "ascii"),
    "bad json": lambda: caught(json.loads, "{"),
    "bad syntax": lambda: caught(compile, "a b", "file.py", "exec"),
    "a failed command": lambda: subprocess.CalledProcessError(2, ["cmd"], b"out", b"err"),
    "a group": lambda: ExceptionGroup("several", [ValueError(1), KeyError("a")]),
    "partly written": lambda: BlockingIOError(11, "later", 5),
    "an exit": lambda: SystemExit(3),
    "our own": lambda: ms.Overloaded("full", retry_after=0.25, reason="late"),
    "a required keyword": lambda: NeedsKeyword("no", code=7),
    "its own message": lambda: FormatsItsMessage("it", hint="try"),
    "no arguments": lambda: TellsNothingToItsBase(7),
    "slots": lambda: KeepsInSlots("no", code=7),
    "a frozen class": lambda: Frozen(7),
    "an os error with a keyword": lambda: FileTrouble(2, "gone", "a.onnx", part="ranker"),
    "text trouble with a keyword": lambda: Unreadable("ascii", b"\xff", 0, 1, "no", part="ranker"),
    "a reduction of its own": lambda: Reduces("a", "b"),
    "a copy that is itself": lambda: CopiesToItself("same"),
}


def details(error):
    """Everything that an error says of itself, wherever its class keeps it."""
    told = {name: getattr(error, name, None) for name in dir(error) if name[0] != "_"}
    return {name: value for name, value in told.items() if not inspect.isroutine(value)}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_own_is_another_instance_that_tells_the_same(make):
    error = make()
    twin = own(error)

    assert twin is not error
    assert type(twin) is type(error)
    assert (str(twin), repr(twin), twin.args) == (str(error), repr(error), error.args)
    assert details(twin) == details(error)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_own_keeps_traceback_and_causes_and_a_list_of_notes_of_its_own(make):
    error = make()
    from_model(error, "'ranker'")
    error = caught(throw, error)
    object.__setattr__(error, "__cause__", ValueError("why"))
    twin = own(error)

    assert twin.__traceback__ is error.__traceback__ is not None
    assert twin.__cause__ is error.__cause__
    assert twin.__context__ is error.__context__
    assert twin.__suppress_context__ is error.__suppress_context__ is True
    notes = getattr(error, "__notes__", [])
    assert getattr(twin, "__notes__", []) == notes
    if notes:
        twin.add_note("seen by one caller")
        assert error.__notes__ == ["raised in 'ranker'"]


def test_own_of_one_that_cannot_be_made_twice_is_the_original():
    error = MadeOnce("only")

    assert own(error) is error


def test_raising_a_twin_leaves_the_original_traceback_alone():
    error = caught(throw, ValueError("bad"))
    before = len(traceback.extract_tb(error.__traceback__))
    twin = caught(throw, own(error))

    assert len(traceback.extract_tb(twin.__traceback__)) > before
    assert len(traceback.extract_tb(error.__traceback__)) == before


def test_own_survives_array_arguments():
    np = pytest.importorskip("numpy")
    error = ValueError("bad", np.ones(3))
    twin = own(error)

    assert twin is not error
    assert twin.args[1] is error.args[1]


def test_from_model_keeps_the_error_and_says_where_once():
    error = ValueError("bad")
    again = from_model(from_model(error, "'ranker'"), "'ranker'")
    from_model(error, "'outer'")

    assert again is error
    assert error.__notes__ == ["raised in 'ranker'", "raised in 'outer'"]


def test_from_model_adds_no_note_to_our_own():
    error = from_model(ms.BadInput("no"), "'ranker'")

    assert not hasattr(error, "__notes__")


@pytest.mark.parametrize("notes", [None, ("a tuple",)])
def test_from_model_survives_what_takes_no_notes(notes):
    error = Frozen(1)
    if notes is not None:
        error = ValueError("bad")
        error.__notes__ = notes

    assert from_model(error, "'ranker'") is error


@pytest.mark.parametrize(
    "error",
    [
        StopIteration(3),
        StopAsyncIteration(),
        asyncio.CancelledError(),
        SystemExit(2),
        KeyboardInterrupt(),
        GeneratorExit(),
    ],
    ids=repr,
)
def test_from_model_tames_what_would_end_a_generator_a_task_or_the_process(error):
    tamed = from_model(error, "'ranker'")

    assert type(tamed) is RuntimeError
    assert tamed.__cause__ is error
    assert "'ranker'" in str(tamed)
    assert type(error).__name__ in str(tamed)


BASES = {
    ms.DeadlineExceeded: TimeoutError,
    ms.Overloaded: RuntimeError,
    ms.Closed: RuntimeError,
    ms.Forked: RuntimeError,
    ms.Stuck: TimeoutError,
    ms.BadInput: ValueError,
    ms.BadOutput: ValueError,
    ms.NestingError: ValueError,
    ms.ModelLoadError: RuntimeError,
}


def test_the_tree_is_whole():
    ours = {getattr(errors, name) for name in errors.__all__} - {ms.ModelServeError}

    assert ours == set(BASES)
    for name in errors.__all__:
        assert getattr(ms, name) is getattr(errors, name)
        assert name in errors.__doc__


@pytest.mark.parametrize(("ours", "base"), BASES.items(), ids=lambda c: c.__name__)
def test_each_is_ours_and_a_kind_that_python_knows(ours, base):
    assert issubclass(ours, ms.ModelServeError)
    assert issubclass(ours, base)
    assert str(ours("why")) == "why"


@pytest.mark.parametrize("duplicate", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])  # noqa: S301
def test_overloaded_travels_with_its_hint_and_its_reason(duplicate):
    error = duplicate(ms.Overloaded("full", retry_after=0.5, reason="bytes"))

    assert (str(error), error.retry_after, error.reason) == ("full", 0.5, "bytes")
    assert (ms.Overloaded("full").retry_after, ms.Overloaded("full").reason) == (None, "")
