"""The bound of bytes that are queued."""

import asyncio

import numpy as np
import pytest

import modelserve as ms
from tests.batcher.asking import (
    both,
    both_gates,
    outcome,
    run,
)

SEEDS = range(20)


def large(fill=0.0):
    return np.full(1000, fill)  # 8,000 bytes


@both_gates
def test_more_bytes_than_the_queue_holds_are_refused(make, gates):
    gate = gates(make)
    p = ms.DynamicBatcher(gate, max_batch_size=1, max_queue_bytes=20_000, name="rank")
    futures = [p.submit(large())]
    gate.wait_entered(1)
    futures += [p.submit(large()), p.submit(large())]
    with pytest.raises(ms.Overloaded, match="raise max_queue_bytes") as caught:
        p.submit(large())

    assert caught.value.reason == "bytes"
    assert (p.stats.refusals, p.stats.queued) == ({"bytes": 1}, 2)
    futures.append(p.submit(1))
    gate.open()
    assert [np.sum(outcome(future)) for future in futures] == [0, 0, 0, 1]
    assert p(large(1.0)).sum() == 1000


@both
def test_an_item_larger_than_the_queue_holds_is_served_alone(colour):
    p = ms.DynamicBatcher(colour(lambda rows: rows * 2), max_queue_bytes=1000, overflow="wait")

    assert p(large(1.0)).sum() == 2000
    assert [y.sum() for y in p.map([large(1.0)] * 5)] == [2000] * 5


@both_gates
def test_room_for_bytes_can_be_waited_for(make, gates):
    gate = gates(make)
    p = ms.DynamicBatcher(gate, max_batch_size=1, max_queue_bytes=10_000, overflow="wait")
    first, second = p.submit(large()), None
    gate.wait_entered(1)
    second = p.submit(large())

    async def main():
        asking = asyncio.gather(p.acall(large(1.0)), p.acall(1))
        await asyncio.sleep(0)
        assert p.stats.queued == 3  # the small one waits its turn
        gate.open()
        big, small = await asking
        return big.sum(), small

    assert run(main) == (1000, 1)
    assert [outcome(future).sum() for future in (first, second)] == [0, 0]
