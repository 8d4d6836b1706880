"""Items, and ways to queue and cut them."""

from modelserve._policy.lanes import Lanes


class Item:
    """What is queued: named for its lane, by the first letter."""

    def __init__(self, name, at=0.0, size=1, *, wanted=True):
        self.name, self.at, self.size, self.wanted = name, at, size, wanted

    def __repr__(self):
        return f"<{self.name} of {self.at}, {self.size}>"


def push(lanes, text, at=0.0, **options):
    """Queue items, a word each; say for each whether somebody should look."""
    return [lanes.push(Item(name, at), name[0], **options) for name in text.split()]


def filled(text, *, limit=2, max_wait=0.0, at=0.0):
    lanes = Lanes(limit, max_wait)
    push(lanes, text, at)
    return lanes


def of_sizes(*sizes, limit=8, **options):
    """Queue items of one lane that differ in size."""
    lanes = Lanes(limit, options.pop("max_wait", 0.0), sized=True, **options)
    for size in sizes:
        lanes.push(Item(str(size), size=size), None)
    return lanes


def cut(lanes, now=0.0, **options):
    return " ".join(item.name for item in lanes.cut(now, **options))


def all_of(lanes, now=0.0):
    batches = []
    while lanes.size:
        batches.append(cut(lanes, now))
    return batches


def without(*names):
    """Sift out items of these names."""
    return lambda items: [item for item in items if item.name not in names]
