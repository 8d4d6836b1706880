"""Models that their loaders renew while a pool holds them: they weigh what they weigh now."""

import numpy as np

import modelserve as ms


class Growing:
    """A factory of loaders of arrays that are of another length at the next load."""

    def __init__(self, **lengths):
        self.lengths = lengths
        self.loaders = {}

    def __call__(self, name):
        self.loaders[name] = ms.ModelLoader(
            lambda: np.ones(self.lengths[name]), predict=lambda w, x: float(w[0] * x), name=name
        )
        return self.loaders[name]

    def grow(self, name, length):
        self.lengths[name] = length
        self.loaders[name].reload()

    def size(self, name):
        return 8 * self.lengths[name]


def test_a_model_that_its_loader_renewed_counts_as_what_it_is_now():
    models = Growing(a=100)
    with ms.ModelPool(models, budget=10_000, size=models.size) as pool:
        pool["a"](1.0)
        models.grow("a", 1_000)
        with ms.request() as r:
            nbytes = pool.stats.nbytes, pool["a"].stats.nbytes

        assert nbytes == ({"all": 8_000}, 8_000)
        assert not r.record


def test_a_load_finds_the_room_that_renewed_models_left():
    models = Growing(a=100, b=100, c=100)
    with ms.ModelPool(models, budget=2_400, size=models.size) as pool:
        pool["a"](1.0)
        pool["b"](1.0)
        models.grow("a", 250)
        pool["c"](1.0)

        assert sum(pool.stats.nbytes.values()) <= 2_400
        assert "a" not in pool.stats.loaded


def test_what_a_renewed_model_weighed_is_expected_when_it_comes_back():
    models = Growing(a=100, b=200)
    with ms.ModelPool(models, budget=2_400) as pool:
        pool["a"](1.0)
        models.grow("a", 250)
        assert pool.stats.nbytes == {"all": 2_000}
        pool.evict("a")
        pool["b"](1.0)
        pool["a"](1.0)

        assert pool.stats.loaded == ("a",)


def test_a_model_that_cannot_be_weighed_again_counts_as_before():
    def weigh(loader):
        if loader.get().size > 100:
            raise ValueError("no scales")
        return 800

    models = Growing(a=100)
    with ms.ModelPool(models, budget=10_000, weigh=weigh) as pool:
        pool["a"](1.0)
        models.grow("a", 1_000)

        assert pool.stats.nbytes == {"all": 800}


def test_a_model_that_does_not_tell_counts_as_when_it_was_loaded():
    loader = ms.ModelLoader(lambda: str.upper, name="a")
    with ms.ModelPool(lambda name: loader, budget=1 << 40, size=lambda name: 10) as pool:
        pool["a"]("x")
        before = pool.stats.nbytes
        loader.reload()

        assert pool.stats.nbytes == before


def test_a_model_that_left_meanwhile_is_not_put_into_the_books():
    def weigh(loader):
        if leaving:
            leaving.pop()
            pool.evict("a")
        return 800

    leaving, models = [], Growing(a=100)
    with ms.ModelPool(models, budget=10_000, weigh=weigh) as pool:
        pool["a"](1.0)
        models.grow("a", 200)
        leaving.append(True)

        assert pool.stats.nbytes == {"all": 0}
