"""What stands at the bottom of a tree: functions that answer, refuse, wait and batch.

Their classes can be pickled, and take the name of what they call.
"""

import asyncio


class Refusal(Exception):
    """An error of a user's, of the kind that ``copy.copy`` cannot copy."""

    def __init__(self, reason, *, code):
        super().__init__(reason)
        self.code = code


def answer(x):
    if isinstance(x, str) and x.startswith("bad"):
        raise Refusal(x, code=len(x))
    if x == "broken":
        raise OSError(5, x)
    return ("answer", x)


class Awaited:
    """A function as an async one; others have their turn before it answers."""

    def __init__(self, fn):
        self.fn = fn
        self.__name__ = fn.__name__

    async def __call__(self, x):
        await asyncio.sleep(0)
        return self.fn(x)


class Batch:
    def __init__(self, leaf):
        self.leaf = leaf
        self.__name__ = leaf.__name__

    def __call__(self, xs):
        return [self.leaf(x) for x in xs]


class AsyncBatch(Batch):
    async def __call__(self, xs):
        return [await self.leaf(x) for x in xs]


class Source:
    """Where a loader finds a model."""

    def __init__(self, model):
        self.model = model

    def __call__(self):
        return self.model


class Giving:
    """A factory of one predictor, whatever it is asked for."""

    def __init__(self, made):
        self.made = made

    def __call__(self, name):
        return self.made


def ten_bytes(_):
    return 10


class Hiding:
    """A function that calls a predictor, which cannot be seen from outside."""

    __name__ = "answer"

    def __init__(self, p):
        self.p = p

    def __call__(self, x):
        return self.p(x)


class Loading:
    """An async batch function that gets its model from a loader."""

    __name__ = "answer"

    def __init__(self, loader):
        self.loader = loader

    async def __call__(self, xs):
        model = await self.loader.aget()
        return await model(xs)
