"""A device's memory without the device: contiguous blocks, gaps between them, and failures.

It behaves as a GPU's allocator does towards a library: a block needs its bytes in one piece, so
free memory in pieces may not do; what is freed comes back only when the work that was queued before
has run (here: after ``delay`` further operations, or at ``empty_cache``); an allocation may fail
whatever is free; a MIG slice sees nothing of its neighbours. What it is not: a model of speed, of
torch's size classes or of memory that is mapped anew to close gaps.
"""

from typing import NamedTuple


class OutOfMemoryError(RuntimeError):
    """Named as torch's is, by which it is told."""


class Block(NamedTuple):
    start: int
    nbytes: int


class FakeDevice:
    """So many bytes, the first gap that is large enough first.

    ``fail_at`` names the allocations, counted from 1, that fail whatever is free.
    """

    def __init__(self, name, total, *, delay=0, fail_at=()):
        self.name = name
        self.total = total
        self.held = []
        self.allocations = 0
        self._delay = delay
        self._fail_at = set(fail_at)
        self._leaving = []

    @property
    def free(self):
        """Bytes that nobody holds, in however many pieces."""
        return self.total - sum(block.nbytes for block in self.held)

    @property
    def largest(self):
        """The bytes of the largest piece."""
        return max((end - start for start, end in self._gaps()), default=0)

    def allocate(self, nbytes):
        self._tick()
        self.allocations += 1
        if self.allocations not in self._fail_at:
            for start, end in self._gaps():
                if end - start >= nbytes:
                    block = Block(start, nbytes)
                    self.held.append(block)
                    return block
        raise OutOfMemoryError(
            f"{self.name} out of memory: tried to allocate {nbytes} bytes, "
            f"{self.free} are free, {self.largest} in one piece"
        )

    def release(self, block):
        """Free a block, when the work queued before has run."""
        self._leaving.append((self._delay, block))
        self._settle()

    def empty_cache(self):
        """Wait for the work that is queued, and have all back that was freed."""
        self._leaving = [(0, block) for _, block in self._leaving]
        self._settle()

    def sliced(self, *sizes):
        """Cut into MIG slices, each a device of its own."""
        assert not self.held
        assert sum(sizes) <= self.total
        return [FakeDevice(f"{self.name}:{i}", n, delay=self._delay) for i, n in enumerate(sizes)]

    def _tick(self):
        self._leaving = [(left - 1, block) for left, block in self._leaving]
        self._settle()

    def _settle(self):
        for left, block in self._leaving:
            if left <= 0:
                self.held.remove(block)
        self._leaving = [(left, block) for left, block in self._leaving if left > 0]

    def _gaps(self):
        edge = 0
        for block in sorted(self.held):
            if block.start > edge:
                yield edge, block.start
            edge = block.start + block.nbytes
        if edge < self.total:
            yield edge, self.total
