"""Closing ends every worker, however many there are."""

import time

import modelserve as ms
from modelserve.testing import GatedPredictor
from tests.batcher.asking import LIMIT, outcome, workers_of


def test_all_parked_workers_end_when_it_is_closed():
    gate = GatedPredictor()
    p = ms.DynamicBatcher(gate, max_batch_size=1, workers=3, name="three that end")
    futures = [p.submit(x) for x in range(3)]
    gate.wait_entered(3)
    threads = workers_of(p)
    gate.open()
    assert [outcome(future) for future in futures] == [0, 1, 2]
    end = time.monotonic() + LIMIT
    while len(p._queues.workers._parked) < 3:
        assert time.monotonic() < end, "a worker does not park"

    p.close(timeout=LIMIT)

    for thread in threads:
        thread.join(LIMIT)
    assert len(threads) == 3
    assert not any(thread.is_alive() for thread in threads)
