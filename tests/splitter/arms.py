"""Variants that say who they are."""

import modelserve as ms


def says(name):
    """Return a function that answers with a name and its input."""

    def answer(x):
        return (name, x)

    answer.__name__ = name
    return answer


def awaits(name):
    """Return the async twin of what ``says`` returns."""

    async def answer(x):
        return (name, x)

    answer.__name__ = name
    return answer


def splitter(salt="demo", variants=says, /, *, weights=None, **options):
    """Make a splitter over variants that say who they are, by default three equal ones."""
    weights = weights or dict.fromkeys("abc")
    made = [ms.Variant(name, variants(name), weight) for name, weight in weights.items()]
    return ms.TrafficSplitter(*made, salt=salt, **options)


def counts(split):
    """How many calls each variant had."""
    return {name: variant.calls for name, variant in split.stats.variants.items()}


def errors(split):
    """How many calls of each variant failed."""
    return {name: variant.errors for name, variant in split.stats.variants.items()}
