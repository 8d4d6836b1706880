"""Bugs in what decides who runs, with whom and when."""

from tests.mutants._bug import Bug

LANES = "_policy/lanes.py"
LINES = "_policy/lines.py"
PACE = "_policy/pace.py"
RERUNS = "_policy/reruns.py"

BUGS = [
    Bug(
        LANES,
        "return self.size == 1 or self._is_full(line)",
        "return self.size == 1",
        "a lane that fills up while its worker is held back waits on",
    ),
    Bug(
        LANES,
        "return self.size == 1 or self._is_full(line)",
        "return self._is_full(line)",
        "the first item wakes nobody, so nobody ever looks at its wait",
    ),
    Bug(
        LANES,
        "return 0.0 if self.max_wait <= 0 or self._alone else max(0.0, came + self.max_wait - now)",
        "return self.max_wait",
        "the wait is not anchored at the oldest item: each look begins it anew",
    ),
    Bug(
        LANES,
        "return min(line.came() for line in self._lines.values())",
        "return next(iter(self._lines.values())).came()",
        "the wait is that of the oldest lane, not of the oldest item",
    ),
    Bug(
        LANES,
        "full = self._full() if self.max_wait > 0 and not self.waited else None",
        "full = self._full() if self.max_wait > 0 else None",
        "full lanes go first for ever, and an item that has waited long enough starves",
    ),
    Bug(
        LANES,
        "batch += sift(line.take(limit - len(batch)))",
        "batch += sift(line.take(limit))",
        "places of those who are gone are filled beyond the bound of a batch",
    ),
    Bug(
        LANES,
        "while line and len(batch) < limit:",
        "while False:",
        "those who are gone leave their places in a batch empty",
    ),
    Bug(
        LANES,
        "if size > room and batch:",
        "if size >= room and batch:",
        "a batch by size is never quite full",
    ),
    Bug(
        LANES,
        "                room -= size\n",
        "                room -= 1\n",
        "sizes of items do not count against the room of a batch",
    ),
    Bug(
        LANES,
        "        if not line:\n            del self._lines[lane]\n        if self.waited:",
        "        if self.waited:",
        "a lane that is empty is kept, and asked for its next item",
    ),
    Bug(
        LANES,
        "        self.size -= taken\n",
        "        self.size -= len(batch)\n",
        "those who are gone count as queued for ever",
    ),
    Bug(
        LANES,
        "min(self._lines.items(), key=lambda lane: lane[1].urgency())",
        "max(self._lines.items(), key=lambda lane: lane[1].urgency())",
        "the youngest lane goes first, so the oldest starves",
    ),
    Bug(
        LINES,
        "return self._oldest(priority) - priority * AGEING",
        "return -priority",
        "low priorities starve while there are higher ones",
    ),
    Bug(
        LINES,
        "return self._oldest(priority) - priority * AGEING",
        "return self._oldest(priority) + priority * AGEING",
        "the least urgent goes first",
    ),
    Bug(
        LINES,
        "                tenants[tenant] = queue  # behind the others",
        "                self._levels[priority] = {tenant: queue, **tenants}",
        "one tenant's calls go before all others' for as long as it has any",
    ),
    Bug(
        LINES,
        "items.append(queue.popleft())",
        "items.append(queue.pop())",
        "last come, first served",
    ),
    Bug(
        LINES,
        "    for item in line:\n        made.push(item, PLAIN)\n",
        "    for item in reversed(line):\n        made.push(item, PLAIN)\n",
        "the first call with a priority turns the order of those before it round",
    ),
    Bug(
        RERUNS,
        "return 2 * (size - 1).bit_length()",
        "return (size - 1).bit_length()",
        "a batch may not run often enough to find its one bad item",
    ),
    Bug(
        RERUNS,
        "        if not self.left:\n            return False\n",
        "",
        "who sends nothing but bad items has everything run over and over",
    ),
    Bug(
        RERUNS,
        "self.left = min(MOST, self.left + 1)",
        "self.left = self.left + 1",
        "the store of reruns grows without a bound",
    ),
]
