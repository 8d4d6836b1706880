"""What a function is: sync or async, of one input, and whether it still lacks its instance."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from modelserve.predictor._names import name_of

if TYPE_CHECKING:
    from inspect import Parameter


def look(fn: Any) -> tuple[bool, bool]:
    """Say whether a function is async and whether it is a method still without its instance.

    Raises TypeError for what cannot be a predictor.
    """
    import inspect

    if not callable(fn):
        raise TypeError(f"{fn!r} is not callable: a predictor is a function of one input")
    if isinstance(fn, type):
        raise TypeError(f"{fn.__name__} is a class: pass an instance, or a function of one input")
    bare = fn
    while isinstance(bare, functools.partial | staticmethod):
        bare = bare.func if isinstance(bare, functools.partial) else bare.__func__
    calls = (bare, type(bare).__call__)
    if any(inspect.isgeneratorfunction(c) or inspect.isasyncgenfunction(c) for c in calls):
        raise TypeError(
            f"{name_of(fn)!r} is a generator function: a predictor gives one output for one "
            "input, so return a list, and stream outside of the tree"
        )
    return any(inspect.iscoroutinefunction(c) for c in calls), _is_unbound_method(fn)


def _is_unbound_method(fn: Any) -> bool:
    import inspect

    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):  # a builtin that does not tell
        return False
    is_method = _in_class(fn) and _takes_self(parameters)
    if is_method:
        del parameters[0]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    free = [p for p in parameters if p.default is p.empty]
    required = [p for p in free if p.kind in positional]
    keywords = [p.name for p in free if p.kind is p.KEYWORD_ONLY]
    if keywords:
        raise TypeError(f"{name_of(fn)!r} requires the keyword {keywords[0]!r}: give it a default")
    takes = len(required) or sum(p.kind in {*positional, p.VAR_POSITIONAL} for p in parameters)
    if len(required) > 1 or not takes:
        raise TypeError(
            f"{name_of(fn)!r} takes {len(required)} required arguments: a predictor takes one "
            "input, so pack several values in a dict, tuple or dataclass"
        )
    return is_method


def _in_class(fn: Any) -> bool:
    """Whether this was defined in the body of a class and is bound to nothing yet."""
    import inspect

    holder = getattr(fn, "__qualname__", "").rpartition(".")[0]
    return inspect.isfunction(fn) and bool(holder) and not holder.endswith("<locals>")


def _takes_self(parameters: list[Parameter]) -> bool:
    """Whether a function of a class's body is a method, and not a function of the input alone."""
    required = [p for p in parameters if p.default is p.empty and p.kind <= p.POSITIONAL_OR_KEYWORD]
    return len(required) == 2 or (bool(parameters) and parameters[0].name == "self")  # noqa: PLR2004
