"""One walk over the tree, and what it is good for: drawing, health and warming."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

from modelserve.predictor._base import PartHealth, Primitive
from modelserve.predictor._threads import refuse_on_loop
from modelserve.request import warm_scope

In = TypeVar("In")


class Node(NamedTuple):
    """One place in a tree: the same part may stand in several."""

    path: tuple[str, ...]
    part: Primitive[Any, Any]
    level: str


def walk(p: Primitive[Any, Any]) -> Iterator[Node]:
    """Visit every place of a tree, parents first, with its path and level."""
    yield from _visit(p, (), "any")


def _visit(p: Primitive[Any, Any], path: tuple[str, ...], below: str) -> Iterator[Node]:
    level = p.level if p.level != "any" else _level_of_parts(p, below)
    yield Node(path, p, level)
    for name, part in p.parts.items():
        yield from _visit(part, (*path, name), p.parts_level or below)


def _level_of_parts(p: Primitive[Any, Any], below: str) -> str:
    if below != "any":
        return below
    if p.parts_level is not None:
        return "item"
    levels = {q.level if q.level != "any" else _level_of_parts(q, below) for q in p.parts.values()}
    return levels.pop() if len(levels) == 1 else "item"


def describe(p: Primitive[Any, Any]) -> str:
    """Draw a tree as text, with live counts.

    Each line gives the kind, the name, whether the part answers for an item or for a batch, and
    what it has done so far.

    >>> import modelserve as ms
    >>> print(ms.describe(ms.PredictionCache(str.upper, maxsize=8)))
    PredictionCache upper [item] 0 of 8 entries, 0 hits, 0 misses
    └─ Function upper [item] 0 calls
    """
    lines: list[str] = []
    nodes = list(walk(p))
    for index, node in enumerate(nodes):
        label = f"{node.part.kind} {node.part.name} [{node.level}] {node.part.summary()}"
        if node.path and node.path[-1] != node.part.name:
            label = f"{node.path[-1]}: {label}"
        lines.append(_indent(nodes, index) + label.rstrip())
        blocked = node.part.blocked_loop.read()
        if blocked:
            stem = " " * len(_indent(nodes, index))
            lines.append(
                f"{stem}   ! {blocked:,} calls blocked an event loop: use await p.acall(x)"
            )
    return "\n".join(lines)


def _indent(nodes: list[Node], index: int) -> str:
    path = nodes[index].path
    marks: list[str] = []
    for depth in range(1, len(path) + 1):
        later = _has_later_sibling(nodes, index, depth)
        last = depth == len(path)
        marks.append(("├─ " if later else "└─ ") if last else ("│  " if later else "   "))
    return "".join(marks)


def _has_later_sibling(nodes: list[Node], index: int, depth: int) -> bool:
    parent = nodes[index].path[: depth - 1]
    branch = nodes[index].path[:depth]
    for node in nodes[index + 1 :]:
        if node.path[: depth - 1] != parent or len(node.path) < depth:
            return False
        if node.path[:depth] != branch:
            return True
    return False


class Health(NamedTuple):
    """How a tree is. ``live`` says the process works, ``ready`` that it can answer now.

    ``parts`` gives the state and the reason of every part by its path.

    >>> import modelserve as ms
    >>> ms.health(ms.ModelLoader(lambda: str.upper, name="shout")).parts["shout"].state
    'cold'
    """

    live: bool
    ready: bool
    parts: dict[str, PartHealth]


def health(p: Primitive[Any, Any]) -> Health:
    """Tell the health of a tree, without touching a model.

    A part that would load at its first call counts as ready; one that loads now, has failed or is
    closed does not. A loader whose reload failed serves its last good version: ready, degraded.

    >>> import modelserve as ms
    >>> upper = ms.predictor(str.upper)
    >>> ms.health(upper).ready
    True
    """
    parts = {"/".join((p.name, *node.path)): node.part.health() for node in walk(p)}
    ready = all(part.state in {"ready", "cold", "degraded"} for part in parts.values())
    return Health(live=True, ready=ready, parts=parts)


def warm(p: Primitive[In, Any], x: In) -> None:
    """Send an input down a whole tree, so that the first caller finds everything warm.

    Every variant and every cache's inside is reached, batchers run it at their smallest and
    largest batch on their own threads, and nothing is counted, recorded or stored. A tree with an
    async part is warmed on its event loop by :func:`awarm`.

    >>> import modelserve as ms
    >>> upper = ms.predictor(str.upper)
    >>> ms.warm(upper, "a")
    >>> upper.stats.calls
    0
    """
    if p.is_async:
        refuse_on_loop(p.name, "modelserve.awarm(p, x)")
    with warm_scope():
        p.warm(x)


async def awarm(p: Primitive[In, Any], x: In) -> None:
    """Send an input down a whole tree like :func:`warm`, without blocking the event loop.

    >>> import asyncio
    >>> import modelserve as ms
    >>> upper = ms.predictor(str.upper)
    >>> asyncio.run(ms.awarm(upper, "a"))
    """
    with warm_scope():
        await p.awarm(x)
