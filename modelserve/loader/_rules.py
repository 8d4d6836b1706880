"""When a loader looks for a newer model."""

from __future__ import annotations

import math
from typing import Any, TypeAlias, final

from modelserve._policy.reloads import Reloads
from modelserve.loader._source import Function, Source


@final
class Every:
    """Load again each so many seconds, give or take the share ``jitter`` of them.

    Jitter keeps processes that began at once from loading at once. A file whose bytes are the
    same is read and left alone; one that changed a moment ago is left to settle first.

    Raises ValueError unless ``seconds`` is above zero and ``jitter`` in [0, 1].

    >>> import modelserve as ms
    >>> ms.Every(3600.0)
    Every(3600.0, jitter=0.1)
    """

    __slots__ = ("jitter", "seconds")

    def __init__(self, seconds: float, jitter: float = 0.1) -> None:
        if not 0 < seconds < math.inf:
            raise ValueError(f"Every({seconds!r}): pass seconds above zero")
        if not 0 <= jitter <= 1:
            raise ValueError(f"jitter={jitter!r}: pass a share of the seconds, from 0 to 1")
        self.seconds = seconds
        self.jitter = jitter

    def policy(self, max_stale: float) -> Reloads:
        """Return what decides for one loader."""
        return Reloads(self.seconds, jitter=self.jitter, reread=True, max_stale=max_stale)

    def __repr__(self) -> str:
        """Show the arguments."""
        return f"Every({self.seconds!r}, jitter={self.jitter!r})"


@final
class OnChange:
    """Load again when the file or folder is another, as a look each ``poll`` seconds shows.

    It is another when its device, inode, size or time of change are: an older file that comes
    back counts too. It must look the same twice before it is read, and still afterwards.

    Raises ValueError unless ``poll`` is above zero.

    >>> import modelserve as ms
    >>> ms.OnChange(poll=5.0)
    OnChange(poll=5.0)
    """

    __slots__ = ("poll",)

    def __init__(self, poll: float = 1.0) -> None:
        if not 0 < poll < math.inf:
            raise ValueError(f"poll={poll!r}: pass seconds above zero")
        self.poll = poll

    def policy(self, max_stale: float) -> Reloads:
        """Return what decides for one loader."""
        return Reloads(self.poll, max_stale=max_stale)

    def __repr__(self) -> str:
        """Show the arguments."""
        return f"OnChange(poll={self.poll!r})"


ReloadRule: TypeAlias = Every | OnChange


def rule_of(reload: Any) -> ReloadRule | None:
    """Return the rule that is meant; a number means each so many seconds."""
    if reload is None or isinstance(reload, Every | OnChange):
        return reload
    if not isinstance(reload, bool) and isinstance(reload, int | float):
        return Every(reload)
    raise TypeError(
        f"reload={reload!r}: pass seconds, modelserve.Every(seconds), modelserve.OnChange() or None"
    )


def check_rule(rule: ReloadRule | None, source: Source, max_stale: float | None) -> None:
    """Refuse what cannot work together."""
    if isinstance(rule, OnChange) and isinstance(source, Function):
        raise ValueError(  # noqa: TRY004 - either alone is well
            f"reload={rule!r}: {source.name!r} is no file, which would show that it changed: "
            "pass seconds"
        )
    if max_stale is None:
        return
    if rule is None:
        raise ValueError(f"max_stale={max_stale!r} without reload=: pass how to reload, too")
    if not max_stale > 0:
        raise ValueError(f"max_stale={max_stale!r}: pass seconds above zero")
