"""Torch modules and the weights that go into them."""

import pytest

import modelserve as ms

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
_fill = pytest.importorskip("modelserve.formats._fill")


class Tied(torch.nn.Module):
    """Two layers of one weight."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(2, 2, bias=False)
        self.second = torch.nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight


def linear():
    return torch.nn.Linear(2, 1)


STATE = {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])}


def test_a_module_has_the_weights_of_the_file():
    module = _fill.fill(linear, STATE)

    assert module(torch.ones(1, 2)).item() == 6.0
    assert module.weight.data_ptr() != STATE["weight"].data_ptr()


def test_numbers_of_another_kind_are_cast_to_the_modules():
    module = _fill.fill(linear, {name: t.double() for name, t in STATE.items()})

    assert module.weight.dtype == torch.float32


def test_a_module_without_memory_takes_the_tensors_themselves():
    module = _fill.fill(lambda: linear().to("meta"), STATE)

    assert module(torch.ones(1, 2)).item() == 6.0
    assert module.weight.data_ptr() == STATE["weight"].data_ptr()


@pytest.mark.parametrize("name", ["first.weight", "second.weight"])
def test_tied_weights_may_be_there_once(name):
    module = _fill.fill(Tied, {name: torch.eye(2)})

    assert module.first.weight is module.second.weight
    assert module.second.weight.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("name", ["first.weight", "second.weight"])
def test_tied_weights_may_be_there_once_for_a_module_without_memory(name):
    def factory():
        with torch.device("meta"):
            return Tied()

    weights = torch.eye(2)
    module = _fill.fill(factory, {name: weights})

    assert module.first.weight.data_ptr() == module.second.weight.data_ptr() == weights.data_ptr()
    assert module.second(module.first(torch.ones(1, 2))).tolist() == [[1, 1]]


class Scaled(torch.nn.Linear):
    """A layer with numbers that no file has."""

    def __init__(self):
        super().__init__(2, 1)
        self.register_buffer("scale", torch.ones(1), persistent=False)

    def forward(self, x):
        return super().forward(x) * self.scale


def test_a_module_of_which_a_part_stays_without_memory_is_refused():
    assert _fill.fill(Scaled, STATE)(torch.ones(1, 2)).item() == 6.0
    message = (
        "^let factory= make the module on the CPU, as the file does not have what it left on the "
        r"meta device \(scale\)$"
    )
    with pytest.raises(ms.ModelLoadError, match=message):
        _fill.fill(lambda: Scaled().to("meta"), STATE)


def test_a_module_without_weights_that_stays_without_memory_is_refused():
    def factory():
        module = torch.nn.Module()
        module.register_buffer("table", torch.ones(1, device="meta"), persistent=False)
        return module

    with pytest.raises(ms.ModelLoadError, match=r"meta device \(table\)$"):
        _fill.fill(factory, {})


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"weight": STATE["weight"]}, "it lacks bias"),
        (STATE | {"scale": STATE["bias"]}, "it has scale besides"),
        ({"a": STATE["bias"]}, "it lacks weight, bias and it has a besides"),
        ({"weight": STATE["bias"], "bias": STATE["bias"]}, "Error.*size mismatch for weight"),
        (STATE | {"bias": "a text"}, "Error.*bias"),
        (STATE | {7: STATE["bias"]}, "it has 7 besides"),
    ],
)
def test_weights_of_another_module_are_refused(state, why):
    message = f"^let factory= make the module that the file was saved from, .* .{why}"
    with pytest.raises(ms.ModelLoadError, match=message):
        _fill.fill(linear, state)


def test_a_factory_that_makes_no_module_is_refused():
    message = "^factory= returned a dict: return the torch module that the weights belong to$"
    with pytest.raises(ms.ModelLoadError, match=message):
        _fill.fill(dict, STATE)
