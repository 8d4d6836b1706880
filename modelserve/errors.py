"""What modelserve raises.

::

    ModelServeError
    ├── DeadlineExceeded   (TimeoutError)  the caller's time is over
    ├── Overloaded         (RuntimeError)  refused at the door; ``retry_after`` says how long
    ├── Closed             (RuntimeError)  called after ``close()``
    ├── Forked             (RuntimeError)  cannot live in a forked child
    ├── Stuck              (TimeoutError)  a model call outlasted its ``max_run``
    ├── BadInput           (ValueError)    this input can never be answered
    ├── BadOutput          (ValueError)    the model answered what cannot be handed out
    ├── NestingError       (ValueError)    predictors stand in an order that would answer wrongly
    └── ModelLoadError     (RuntimeError)  a model could not be loaded

Errors that a model raises keep their type and get a note that says where they came from.

>>> issubclass(DeadlineExceeded, TimeoutError)
True
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from types import GetSetDescriptorType, MemberDescriptorType

__all__ = [
    "BadInput",
    "BadOutput",
    "Closed",
    "DeadlineExceeded",
    "Forked",
    "ModelLoadError",
    "ModelServeError",
    "NestingError",
    "Overloaded",
    "Stuck",
]


class ModelServeError(Exception):
    """The root of all errors of modelserve.

    >>> issubclass(Overloaded, ModelServeError)
    True
    """


class DeadlineExceeded(ModelServeError, TimeoutError):
    """The deadline of the request in force has passed.

    >>> import modelserve as ms
    >>> with ms.request(timeout=0.0):
    ...     ms.predictor(str.upper)("a")
    Traceback (most recent call last):
        ...
    modelserve.errors.DeadlineExceeded: the deadline passed before 'upper' was called
    """


class Overloaded(ModelServeError, RuntimeError):
    """More work than the bounds allow; nothing was accepted.

    ``retry_after`` is the time in seconds after which room is expected, or None if unknown;
    ``reason`` is one word for why: of a batcher, "full" or "bytes" of its queue, or "late"; of a
    pool, "leased", "residency" or "room".

    >>> Overloaded("the queue is full", retry_after=0.2, reason="full").retry_after
    0.2
    """

    def __init__(self, *args: object, retry_after: float | None = None, reason: str = "") -> None:
        super().__init__(*args)
        self.retry_after = retry_after
        self.reason = reason


class Closed(ModelServeError, RuntimeError):
    """The predictor was closed; enter it again to reopen it.

    >>> import modelserve as ms
    >>> upper = ms.predictor(str.upper)
    >>> upper.close()
    >>> upper("a")
    Traceback (most recent call last):
        ...
    modelserve.errors.Closed: 'upper' is closed: open it again with `with predictor:`
    """


class Forked(ModelServeError, RuntimeError):
    """A live model cannot be used in a forked child; load it there instead.

    >>> raise Forked("'ranker' holds a CUDA model made before the fork")
    Traceback (most recent call last):
        ...
    modelserve.errors.Forked: 'ranker' holds a CUDA model made before the fork
    """


class Stuck(ModelServeError, TimeoutError):
    """A model call outlasted its limit and was given up.

    >>> issubclass(Stuck, TimeoutError)
    True
    """


class BadInput(ModelServeError, ValueError):
    """This input cannot be answered, now or later.

    >>> issubclass(BadInput, ValueError)
    True
    """


class BadOutput(ModelServeError, ValueError):
    """A model's answer cannot be told apart for its callers.

    >>> import modelserve as ms
    >>> with ms.DynamicBatcher(lambda xs: None, name="broken") as broken:
    ...     broken(1)
    Traceback (most recent call last):
        ...
    modelserve.errors.BadOutput: 'broken' returned None for 1 items: return one result an item
    """


class NestingError(ModelServeError, ValueError):
    """Predictors nested in an order that would give one caller another's answer.

    >>> import modelserve as ms
    >>> split = ms.TrafficSplitter(ms.Variant("only", str.upper), salt="demo")
    >>> ms.PredictionCache(split, maxsize=8)
    Traceback (most recent call last):
        ...
    modelserve.errors.NestingError: TrafficSplitter 'demo' stands below PredictionCache 'demo', \
whose answers are shared by callers of every unit: put the cache inside each variant
    """


class ModelLoadError(ModelServeError, RuntimeError):
    """A model could not be fetched, verified or loaded.

    >>> import modelserve as ms
    >>> ms.ModelLoader("absent.onnx", mode="eager")
    Traceback (most recent call last):
        ...
    modelserve.errors.ModelLoadError: 'absent.onnx' does not exist: pass the path of a model file
    """


def own(error: BaseException) -> BaseException:
    """Make a caller's own instance of an error that several callers share.

    A class that can be made neither by ``copy.copy`` nor by ``__new__`` has its original shared.
    """
    for make in (copy.copy, _anew):
        try:
            twin = make(error)
            if twin is not error and type(twin) is type(error):
                _complete(twin, error)
                return twin
        except Exception:  # noqa: BLE001, S112 - a user's class may raise anything
            continue
    return error


def _anew(error: BaseException) -> BaseException:
    cls = type(error)
    return cls.__new__(cls, *error.args)


def _complete(twin: BaseException, error: BaseException) -> None:
    """Give a twin what its class's rules of copying leave out, also where the class is frozen."""
    put = BaseException.__setattr__
    twin.__dict__.update(error.__dict__)
    for name in _members(type(error)):
        there = getattr(error, name, None)
        if getattr(twin, name, None) is not there:
            with contextlib.suppress(AttributeError):  # read-only: the class itself fills it
                put(twin, name, there)
    for name in ("__traceback__", "__cause__", "__context__", "__suppress_context__"):
        put(twin, name, getattr(error, name))
    if hasattr(error, "__notes__"):
        put(twin, "__notes__", list(error.__notes__))


def _members(cls: type[BaseException]) -> list[str]:
    """Name what lies outside of ``__dict__``: in slots, and in fields of built-in classes."""
    return [
        name
        for base in cls.__mro__
        for name, kind in vars(base).items()
        if isinstance(kind, MemberDescriptorType | GetSetDescriptorType) and name[:2] != "__"
    ]


def from_model(error: BaseException, where: str) -> Exception:
    """Turn whatever a model raised into an error that can be handed to its callers.

    A model's StopIteration, cancellation or exit must end neither a generator, nor a task, nor
    the process of those who only asked for a prediction.
    """
    if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
        note = f"raised in {where}"
        if not isinstance(error, ModelServeError) and note not in getattr(error, "__notes__", ()):
            with contextlib.suppress(Exception):  # a frozen class takes none
                error.add_note(note)
        return error
    wrapped = RuntimeError(f"{where} raised {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def causes(error: BaseException) -> Iterator[BaseException]:
    """Go through an error, what it came from, and so on, each once."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__


NO_MEMORY = ("out of memory", "allocate memory", "not enough memory")
"""Of CUDA, of ONNX Runtime and torch on a CPU, and of torch on Windows."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a model failed since it took more memory than there is.

    Told without importing anybody: torch has a class for it, ONNX Runtime and CUDA say so in words.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    ort = type(error).__module__.startswith("onnxruntime")
    text = str(error).lower() if ort or isinstance(error, RuntimeError) else ""
    return any(words in text for words in NO_MEMORY)
