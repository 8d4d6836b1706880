"""The default store: what is asked for once does not push out what is asked for often.

S3-FIFO, by Yang, Zhang, Qiu, Yue and Rashmi, "FIFO queues are all you need for cache eviction",
SOSP 2023, algorithm 1.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import cachetools

VISITS = (1, 2, 3, 3)
"""What a count of visits becomes by one more."""


class Node:
    """One entry; a removed one stays in its queue, without key and value, until its turn comes."""

    __slots__ = ("is_new", "key", "size", "value", "visits")

    def __init__(self, key: Hashable, value: Any, size: float, *, is_new: bool) -> None:
        self.key = key
        self.value = value
        self.size = size
        self.visits = 0
        self.is_new = is_new


_GONE = object()
_NOBODY = -1  # what no hash is


class S3Fifo(cachetools.Cache[Any, Any]):
    """A cache of ``cachetools`` that a scan does not empty, bounded by the sum of sizes.

    A tenth is for newcomers. Those asked for again move on to the rest, the others are dropped and
    only their hashes remembered: who comes back soon skips the tenth. ``nodes`` may be read
    without a lock; whoever does counts the visit.

    >>> store = S3Fifo(20)
    >>> store.update(zip("ab", "AB"))
    >>> store["a"], store["a"], len(store), store.currsize
    ('A', 'A', 2, 2)
    """

    def __init__(self, maxsize: float, getsizeof: Callable[[Any], float] | None = None) -> None:
        super().__init__(maxsize, getsizeof)
        self.nodes: dict[Hashable, Node] = {}
        self._bound = maxsize
        self._new: deque[Node] = deque()
        self._main: deque[Node] = deque()
        self._size: float = 0
        self._new_size: float = 0
        self._ghosts = array("q", [_NOBODY]) * 16

    @property
    def currsize(self) -> float:
        """The sum of the sizes."""
        return self._size

    def __getitem__(self, key: Hashable) -> Any:
        node = self.nodes.get(key)
        if node is None:
            return self.__missing__(key)
        node.visits = VISITS[node.visits]
        return node.value

    def __setitem__(self, key: Hashable, value: Any) -> None:
        size = self.getsizeof(value)
        if not 0 <= size <= self._bound:
            raise ValueError("value too large" if size > self._bound else "a size below 0")
        node = self.nodes.get(key)
        if node is not None:
            self._add(node, -1)
            node.size, node.value = size, value
            self._add(node, 1)
            while self._size > self._bound:
                self.popitem()
            return
        while self._size + size > self._bound:
            self.popitem()
        mark = hash(key)
        is_new = self._ghosts[mark % len(self._ghosts)] != mark
        node = self.nodes[key] = Node(key, value, size, is_new=is_new)
        (self._new if is_new else self._main).append(node)
        self._add(node, 1)

    def __contains__(self, key: object) -> bool:
        return key in self.nodes

    def __iter__(self) -> Iterator[Any]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def __copy__(self) -> S3Fifo:
        """Copy the entries; visits are counted anew."""
        other = S3Fifo(self._bound, self.getsizeof)
        for key, node in self.nodes.items():
            other[key] = node.value
        return other

    def __repr__(self) -> str:
        """Show how full it is."""
        return f"S3Fifo({len(self)} entries, {self.currsize} of {self._bound})"

    def clear(self) -> None:
        """Remove all entries; what was there before is still remembered by its hash."""
        for key in list(self.nodes):
            del self[key]

    def popitem(self) -> tuple[Any, Any]:
        """Remove and return what counts least. Raises KeyError if there is nothing."""
        if not self.nodes:
            raise KeyError("the cache is empty")
        while True:
            newcomers = bool(self._new) and (not self._main or self._new_size * 10 >= self._bound)
            node = (self._new if newcomers else self._main).popleft()
            if node.key is _GONE:
                continue
            if newcomers and node.visits > 1:
                self._move(node)
            elif not newcomers and node.visits:
                node.visits -= 1
                self._main.append(node)
            else:
                value = node.value
                del self.nodes[node.key]
                self._add(node, -1)
                if newcomers:
                    self._remember(hash(node.key))
                return node.key, value

    def _move(self, node: Node) -> None:
        node.visits = 0
        node.is_new = False
        self._new_size -= node.size
        self._main.append(node)

    def _add(self, node: Node, sign: int) -> None:
        self._size += sign * node.size
        if node.is_new:
            self._new_size += sign * node.size

    def __delitem__(self, key: Hashable) -> None:
        node = self.nodes.pop(key)
        self._add(node, -1)
        node.key, node.value = _GONE, None
        for queue in (self._new, self._main):
            if len(queue) > 2 * len(self.nodes) + 16:
                alive = [node for node in queue if node.key is not _GONE]
                queue.clear()
                queue.extend(alive)

    def _remember(self, mark: int) -> None:
        """Put a hash into its place, where it forgets another: 8 bytes for each that is kept."""
        if len(self._ghosts) < len(self.nodes):
            known = [ghost for ghost in self._ghosts if ghost != _NOBODY]
            self._ghosts = array("q", [_NOBODY]) * (2 * len(self._ghosts))
            for ghost in known:
                self._ghosts[ghost % len(self._ghosts)] = ghost
        self._ghosts[mark % len(self._ghosts)] = mark
