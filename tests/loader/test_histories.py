"""Files that come, change, break and go in any order, beside reloads, rollbacks and closings."""

import contextlib

import pytest

import modelserve as ms
from modelserve.events import Loaded, LoadFailed, Retired, RolledBack
from modelserve.predictor import PartHealth
from modelserve.testing import EventLog
from tests.formats import models
from tests.loader.crowds import told
from tests.loader.tending import Written, first, hand, join_loads, luck, rows, seed

assert hand  # a fixture

GOOD = [models.times(float(factor)) for factor in range(1, 6)]
RULES = [ms.OnChange(), ms.Every(5.0), ms.Every(60.0, jitter=0.5)]


class History:
    """One loader, its file, and what may happen to them."""

    def __init__(self, number, path, hand):
        self.rng = luck(number)
        self.hand = hand
        self.log = EventLog()
        self.file = Written(path)
        self.file.replace(self.rng.choice(GOOD))
        self.loader = ms.ModelLoader(
            path,
            reload=self.rng.choice(RULES),
            max_stale=self.rng.choice([None, 100.0]),
            clock=hand.clock,
            on_event=self.log,
        )
        seed(self.loader, number)
        self.loader.get()
        join_loads()

    def good(self):
        self.file.replace(self.rng.choice(GOOD), older=self.rng.random() < 0.3)

    def bad(self):
        self.file.replace(b"bad" * self.rng.randrange(1, 9))

    def touched(self):
        if self.file.path.exists():
            self.file.stamp()

    def gone(self):
        self.file.path.unlink(missing_ok=True)

    def time(self):
        self.hand.run(self.rng.choice([0.5, 1, 2, 10, 100]))

    def reloaded(self):
        with contextlib.suppress(ms.ModelServeError):
            self.loader.reload()

    def rolled_back(self):
        with contextlib.suppress(ms.ModelServeError):
            self.loader.rollback()

    def reopened(self):
        self.loader.close()
        with contextlib.suppress(ms.ModelServeError):
            self.loader.open()
        join_loads()  # a thread that ends holds what it loaded

    def go_on(self):
        """Let one thing happen, and look whether all is well."""
        happens = [self.good, self.bad, self.touched, self.gone, self.reloaded, self.rolled_back]
        self.rng.choice([*happens, self.reopened, self.time, self.time, self.time])()
        stamp = self.loader.stamp()
        assert stamp is None or stamp.retired == 0
        if stamp is not None:
            assert first(self.loader(rows(1))) in {1.0, 2.0, 3.0, 4.0, 5.0}
        assert self.serving() == {stamp.version for stamp in [stamp] if stamp is not None}

    def serving(self):
        """Return what serves by what was told."""
        serving = set()
        for event in told(self.log):
            if isinstance(event, Loaded | RolledBack):
                serving.add(event.version)
            elif isinstance(event, Retired):
                serving.discard(event.version)
        return serving


@pytest.mark.parametrize("number", range(30))
def test_whatever_happened_the_next_good_file_serves(number, tmp_path, hand):
    history = History(number, tmp_path / "ranker.onnx", hand)
    for _ in range(30):
        history.go_on()
    if history.loader.life.closed:
        history.good()
        history.loader.open()
    history.file.replace(models.times(9.0))
    failed = len(history.log.of(LoadFailed))
    hand.run(100)

    assert first(history.loader(rows(1))) == 9.0
    assert history.loader.health() == PartHealth("ready")
    assert len(history.log.of(LoadFailed)) == failed
    hand.run(200)
    assert history.loader.stats.version == history.loader.version
    assert hand.tended == 1
