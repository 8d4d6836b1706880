"""The life of a tree: counted opens, parts first; closes, parents first."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from modelserve.predictor._fork import on_fork

if TYPE_CHECKING:
    from modelserve.predictor._base import Primitive


class Life:
    """How often a part was opened, and whether it is closed."""

    __slots__ = ("__weakref__", "attribute", "closed", "lock", "method", "opens")

    def __init__(self) -> None:
        self.after_fork()
        self.opens = 0
        self.closed = False
        self.attribute: str | None = None
        self.method: tuple[object, str] | None = None

    def after_fork(self) -> None:
        self.lock = threading.Lock()

    def enter(self) -> None:
        on_fork(self)
        with self.lock:
            self.opens += 1
            self.closed = False

    def leave(self, *, counted: bool) -> bool:
        """Undo one open, if one was counted; say whether this ended it."""
        with self.lock:
            return self._leave(counted=counted)

    def leave_first(self) -> tuple[bool, bool]:
        """Undo one open if there is one; say whether there was, and whether this ended it."""
        with self.lock:
            counted = self.opens > 0
            return counted, self._leave(counted=counted)

    def _leave(self, *, counted: bool) -> bool:
        if counted and self.opens:
            self.opens -= 1
        if self.opens or self.closed:
            return False
        self.closed = True
        return True


def postorder(root: Primitive[Any, Any]) -> list[Primitive[Any, Any]]:
    """List every part of a tree once, parts before what they are parts of."""
    seen: dict[int, Primitive[Any, Any]] = {}
    _visit(root, seen, set())
    return list(seen.values())


def _visit(p: Primitive[Any, Any], seen: dict[int, Primitive[Any, Any]], entered: set[int]) -> None:
    """Walk on; no closure, since one that calls itself would keep a dropped tree alive."""
    if id(p) in entered:
        return
    entered.add(id(p))
    for part in p.parts.values():
        _visit(part, seen, entered)
    seen[id(p)] = p


def open_tree(root: Primitive[Any, Any]) -> None:
    opened: list[Primitive[Any, Any]] = []
    for part in postorder(root):
        part.life.enter()
        opened.append(part)
        try:
            part.start()
        except BaseException:
            for each in reversed(opened):
                if each.life.leave(counted=True):
                    with contextlib.suppress(Exception):  # that it did not open counts more
                        each.stop(drain=True, timeout=None)
            raise


async def aopen_tree(root: Primitive[Any, Any]) -> None:
    opened: list[Primitive[Any, Any]] = []
    for part in postorder(root):
        part.life.enter()
        opened.append(part)
        try:
            await part.astart()
        except BaseException:
            for each in reversed(opened):
                if each.life.leave(counted=True):
                    with contextlib.suppress(Exception):  # that it did not open counts more
                        await each.astop(drain=True, timeout=None)
            raise


def _leaving(root: Primitive[Any, Any]) -> Iterator[Primitive[Any, Any]]:
    """Undo one open of each part; give those that this ended, parents first.

    A part takes calls until its parents have stopped, since they may have work for it. A root that
    is closed already has no open to undo, so closing twice takes nothing away from other trees
    that share its parts.
    """
    counted, ended = root.life.leave_first()
    if ended:
        yield root
    for part in reversed(postorder(root)[:-1]):
        if part.life.leave(counted=counted):
            yield part


def close_tree(root: Primitive[Any, Any], drain: bool, timeout: float | None) -> None:  # noqa: FBT001
    undone = min(root.life.opens, 1)
    for part in postorder(root):
        ends = part.life.opens <= undone and not part.life.closed
        if ends and part.needs_this_loop():
            raise RuntimeError(
                f"{part.name!r} has work on the event loop of this thread: use `await p.aclose()`"
            )
    end = None if timeout is None else time.monotonic() + timeout
    first: BaseException | None = None
    for part in _leaving(root):
        try:
            part.stop(drain, None if end is None else end - time.monotonic())
        except BaseException as error:  # noqa: BLE001 - the other parts are closed all the same
            first = first or error
    if first is not None:
        raise first


async def aclose_tree(root: Primitive[Any, Any], drain: bool, timeout: float | None) -> None:  # noqa: FBT001
    end = None if timeout is None else time.monotonic() + timeout
    first: BaseException | None = None
    for part in _leaving(root):
        try:
            await part.astop(drain, None if end is None else end - time.monotonic())
        except BaseException as error:  # noqa: BLE001 - the other parts are closed all the same
            first = first or error
    if first is not None:
        raise first
