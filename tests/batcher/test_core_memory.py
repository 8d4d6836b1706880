"""A batch that took too much memory bounds all that come, the smallest such batch the most."""

import asyncio

import modelserve as ms
from tests.support.virtual import here, run


def test_a_larger_batch_that_fails_later_does_not_raise_the_bound():
    sizes = []

    async def predict(xs):
        sizes.append(len(xs))
        is_short = len(sizes) <= 2
        await asyncio.sleep(float(len(xs)))
        if is_short and len(xs) > 1:
            raise MemoryError
        return xs

    async def main():
        p = ms.DynamicBatcher(predict, max_batch_size=8, workers=2, clock=here().time)
        asked = [p.submit(x) for x in range(8)]
        await asyncio.sleep(0.5)
        asked += [p.submit(x) for x in range(8, 10)]
        answers = await asyncio.gather(*map(asyncio.wrap_future, asked))
        assert sorted(sizes) == [1, 1, 2, 4, 4, 8]
        asked = [p.submit(x) for x in range(4)]
        assert await asyncio.gather(*map(asyncio.wrap_future, asked)) == [0, 1, 2, 3]
        return answers

    assert run(main) == list(range(10))
    assert sizes[6:] == [1, 1, 1, 1]
