"""What all primitives have in common: many inputs, names, looks, and how they travel."""

import asyncio
import itertools
import os
import pickle
import subprocess
import sys

import pytest

import modelserve as ms
from modelserve.predictor import Counter, Primitive, Spec, achunks, chunks, each
from tests.contract.calling import LIMIT, start, taken


@ms.predictor
def shout(text):
    """Say it loud."""
    return text.upper()


@ms.cached(maxsize=8)
@ms.batched(max_batch_size=4)
def lengths(texts):
    return [len(text) for text in texts]


async def whisper(text):
    return text.lower()


def fail_at(*bad):
    def fn(x):
        if x in bad:
            raise ValueError(x)
        return x

    return fn


async def aiter_of(xs):
    for x in xs:
        yield x


def shapes(ys):
    return [(type(y), y.args) if isinstance(y, Exception) else y for y in ys]


class TestCounter:
    def test_counts_what_was_added_however_often_it_is_read(self):
        counter = Counter()
        reads = [counter.read()]
        for _ in range(3):
            counter.add()
            reads += [counter.read(), counter.read()]

        assert reads == [0, 1, 1, 2, 2, 3, 3]

    def test_many_threads_add_and_read(self):
        def work():
            for _ in range(500):
                counter.add()
                counter.read()

        counter = Counter()
        for thread in [start(work) for _ in range(16)]:
            thread.result(LIMIT)

        assert counter.read() == 16 * 500


class TestMap:
    def test_keeps_the_order(self):
        assert list(shout.map("cab")) == ["C", "A", "B"]
        assert asyncio.run(taken(shout.amap("cab"))) == ["C", "A", "B"]

    def test_of_an_async_tree_works_on_a_plain_thread(self):
        assert list(ms.predictor(whisper).map("AB")) == ["a", "b"]

    def test_of_an_async_tree_is_refused_on_a_loop_even_with_exceptions_returned(self):
        async def main():
            with pytest.raises(RuntimeError, match=r"await p\.acall\(x\)"):
                list(ms.predictor(whisper).map("AB", return_exceptions=True))

        asyncio.run(main())

    def test_is_lazy_and_takes_no_end(self):
        seen = []
        p = ms.predictor(lambda x: seen.append(x) or x)
        ys = p.map(itertools.count())
        assert seen == []
        assert [next(ys), next(ys)] == [0, 1]
        assert seen == [0, 1]

    def test_amap_is_lazy_and_takes_no_end(self):
        async def main():
            ys = p.amap(itertools.count())
            assert seen == []
            first = [await anext(ys), await anext(ys)]
            await ys.aclose()
            return first

        seen = []
        p = ms.predictor(lambda x: seen.append(x) or x, executor=ms.inline)

        assert asyncio.run(main()) == [0, 1]
        assert seen == [0, 1]

    def test_raises_the_first_failure_after_what_came_before(self):
        p = ms.predictor(fail_at(2, 3), name="picky")
        ys = p.map([1, 2, 3])
        assert next(ys) == 1
        with pytest.raises(ValueError, match="2"):
            next(ys)

    def test_amap_raises_the_first_failure_after_what_came_before(self):
        async def main():
            ys = ms.predictor(fail_at(2, 3)).amap([1, 2, 3])
            first = await anext(ys)
            with pytest.raises(ValueError, match="2"):
                await anext(ys)
            return first

        assert asyncio.run(main()) == 1

    def test_can_put_failures_in_their_places(self):
        p = ms.predictor(fail_at(2, 3))
        expected = [1, (ValueError, (2,)), (ValueError, (3,)), 4]

        assert shapes(p.map([1, 2, 3, 4], return_exceptions=True)) == expected
        ys = asyncio.run(taken(p.amap([1, 2, 3, 4], return_exceptions=True)))
        assert shapes(ys) == expected

    def test_amap_takes_both_kinds_of_iterables(self):
        assert asyncio.run(taken(shout.amap(aiter_of("ab")))) == ["A", "B"]

    def test_what_the_inputs_raise_passes_through(self):
        def inputs():
            yield "a"
            raise KeyError("inputs")

        ys = shout.map(inputs(), return_exceptions=True)
        assert next(ys) == "A"
        with pytest.raises(KeyError, match="inputs"):
            next(ys)


class TestChunks:
    @pytest.mark.parametrize("n", range(7))
    def test_cut_iterables_of_both_kinds(self, n):
        cut = [list(range(n))[i : i + 3] for i in range(0, n, 3)]

        assert list(chunks(range(n), 3)) == cut
        assert asyncio.run(taken(achunks(range(n), 3))) == cut
        assert asyncio.run(taken(achunks(aiter_of(range(n)), 3))) == cut

    def test_take_no_more_than_they_need(self):
        inputs = iter(range(10))

        assert next(chunks(inputs, 3)) == [0, 1, 2]
        assert next(inputs) == 3

    def test_each_gives_every_input(self):
        assert asyncio.run(taken(each("ab"))) == ["a", "b"]
        assert asyncio.run(taken(each(aiter_of("ab")))) == ["a", "b"]


class Bare(Primitive):
    """A primitive that fills nothing in."""

    kind = "Bare"

    def __init__(self, *parts):
        super().__init__("bare", {part.name: part for part in parts}, Spec(Bare, parts, {}))


class TestBare:
    def test_says_what_a_primitive_must_fill_in(self):
        bare = Bare()
        for missing in (lambda: bare(1), lambda: asyncio.run(bare.acall(1)), lambda: bare.stats):
            with pytest.raises(NotImplementedError):
                missing()

    def test_lives_without_doing_anything(self):
        async def main():
            async with bare:
                await ms.awarm(bare, 1)

        bare = Bare(ms.predictor(lambda x: x, name="same"))
        with bare:
            assert ms.health(bare).ready
            ms.warm(bare, 1)
        assert not ms.health(bare).ready
        asyncio.run(main())

    def test_shows_its_name_alone(self):
        assert ms.describe(Bare()) == "Bare bare [item]"

    def test_hands_out_no_version_and_needs_no_loop(self):
        assert Bare().stamp() is None
        assert Bare().needs_this_loop() is False


class TestLooks:
    def test_repr_shows_kind_name_and_counts(self):
        p = ms.predictor(str.upper)
        p("a")

        assert repr(p) == "Function('upper', calls=1, errors=0)"

    def test_notebooks_get_the_drawing_as_text(self):
        p = ms.predictor(str.upper, name="<b>&</b>")

        assert p._repr_html_() == ("<pre>Function &lt;b&gt;&amp;&lt;/b&gt; [item] 0 calls</pre>")

    def test_a_predictor_looks_like_its_function(self):
        assert (shout.__name__, shout.__doc__) == ("shout", "Say it loud.")
        assert shout.name == "shout"

    def test_parts_cannot_be_changed(self):
        with pytest.raises(TypeError):
            lengths.parts["other"] = shout


ELSEWHERE = """
import pickle, sys
p, x = pickle.loads(sys.stdin.buffer.read())
print(repr((type(p).__name__, p.name, p(x), sum(len(part.parts) for part in [p]))))
"""


def elsewhere(p, x):
    """Ask a predictor in another interpreter."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ELSEWHERE],
        input=pickle.dumps((p, x)),
        capture_output=True,
        timeout=LIMIT,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


class Scale:
    def __init__(self, factor):
        self.factor = factor

    @ms.batched(max_batch_size=4)
    def times(self, xs):
        return [x * self.factor for x in xs]


class TestPickle:
    def test_by_name_where_a_module_holds_it(self):
        assert pickle.loads(pickle.dumps(lengths)) is lengths  # noqa: S301 - our own bytes
        assert elsewhere(lengths, "four") == repr(("PredictionCache", "lengths", 4, 1))

    def test_by_its_parts_elsewhere_and_cold(self):
        p = ms.PredictionCache(ms.DynamicBatcher(len_all, name="batch"), maxsize=8, name="cache")
        p("a")
        twin = pickle.loads(pickle.dumps(p))  # noqa: S301 - our own bytes

        assert twin is not p
        assert twin.stats.misses == 0
        assert elsewhere(p, "four") == repr(("PredictionCache", "cache", 4, 1))

    def test_of_a_name_that_is_anothers_goes_by_parts(self):
        p = ms.predictor(str.upper)
        p.__module__, p.__qualname__ = __name__, "shout"

        assert pickle.loads(pickle.dumps(p)) is not shout  # noqa: S301 - our own bytes

    def test_of_a_decorated_method_goes_with_its_instance(self):
        p = Scale(3).times
        assert p(2) == 6

        assert elsewhere(p, 5) == repr(("DynamicBatcher", "times", 15, 1))

    def test_of_an_instance_goes_without_its_predictors(self):
        scale = Scale(3)
        assert scale.times(2) == 6
        twin = pickle.loads(pickle.dumps(scale))  # noqa: S301 - our own bytes

        assert twin.times(2) == 6
        assert twin.times is not scale.times
        assert twin.times.stats.calls == 1


def len_all(texts):
    return [len(text) for text in texts]
