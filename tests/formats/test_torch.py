"""Torch modules: as they are called, and what becomes of them in a forked child."""

from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
format_torch = pytest.importorskip("modelserve.formats.torch")


class Module(torch.nn.Module):
    """Multiply by a weight; what comes out is wrapped by a function."""

    def __init__(self, wrap=lambda y: y, weight=3.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))
        self.wrap = wrap
        self.seen = []

    def forward(self, x):
        self.seen.append((type(x), self.training, torch.is_inference_mode_enabled()))
        return self.wrap(x * self.weight)


class Pair(NamedTuple):
    left: object
    right: object


def array(*values):
    return np.array(values, np.float32)


def test_arrays_go_in_and_come_out():
    module = Module()
    y = format_torch.caller(module)(array(1, 2))

    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, array(3, 6))
    assert module.seen == [(torch.Tensor, False, True)]


def test_tensors_go_in_and_come_out():
    module = Module()
    y = format_torch.caller(module)(torch.tensor([1.0, 2.0]))

    assert type(y) is torch.Tensor
    assert y.tolist() == [3.0, 6.0]
    assert not y.requires_grad
    assert module.seen == [(torch.Tensor, False, True)]


def test_what_the_module_makes_of_other_things_is_its_own():
    y = format_torch.caller(Module())(2.0)

    assert type(y) is torch.Tensor
    assert y.item() == 6.0


def test_inference_mode_ends_with_the_call():
    call = format_torch.caller(Module())
    call(array(1))
    with pytest.raises(TypeError):
        call("not a number")

    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("wrap", "kind"),
    [
        (lambda y: {"a": y, "b": (y, 1)}, dict),
        (lambda y: (y, {"b": y}), tuple),
        (lambda y: [y, "text"], list),
        (lambda y: Pair(y, [y]), Pair),
        (lambda y: torch.max(y[None], dim=1), torch.return_types.max),
    ],
    ids=["dict", "tuple", "list", "named tuple", "torch's own"],
)
def test_structures_of_tensors_come_out_as_structures_of_arrays(wrap, kind):
    call = format_torch.caller(Module(wrap))
    y = call(array(1, 2))
    tensors = call(torch.tensor([1.0, 2.0]))

    assert type(y) is type(tensors) is kind
    assert leaves(y, np.ndarray) == leaves(tensors, torch.Tensor) != []


def test_a_mapping_of_the_modules_own_comes_out_as_a_dict():
    y = format_torch.caller(Module(lambda y: OrderedDict(logits=y)))(array(1, 2))

    assert type(y) is dict
    np.testing.assert_array_equal(y["logits"], array(3, 6))


def leaves(y, kind):
    """List what lies in a structure, arrays and tensors as lists."""
    if isinstance(y, kind):
        return [y.tolist()]
    if isinstance(y, dict):
        y = y.values()
    if isinstance(y, str | int):
        return [y]
    assert not isinstance(y, np.ndarray | torch.Tensor)
    return [leaf for value in y for leaf in leaves(value, kind)]


def frozen(x):
    x.flags.writeable = False
    return x


@pytest.mark.parametrize(
    "x",
    [
        frozen(array(1, 2)),
        array(2, 1)[::-1],
        array(1, 0, 2)[::2],
        np.frombuffer(array(1, 2).tobytes(), np.float32),
    ],
    ids=["read-only", "backwards", "strided", "of bytes"],
)
def test_arrays_that_torch_cannot_share_are_taken_too(x):
    np.testing.assert_array_equal(format_torch.caller(Module())(x), array(3, 6))


def test_an_array_of_no_dimension_keeps_it():
    y = format_torch.caller(Module())(np.float32(2.0)[...])

    assert y.shape == ()


def test_a_module_without_parameters_runs_on_the_cpu():
    y = format_torch.caller(torch.nn.Softmax(dim=0))(array(1, 1))

    np.testing.assert_array_equal(y, array(0.5, 0.5))


def test_a_module_of_buffers_alone_gets_its_input_where_they_are():
    module = torch.nn.BatchNorm1d(2, affine=False).to("meta")
    with pytest.raises(NotImplementedError, match="meta"):  # a device without any values
        format_torch.caller(module)(np.ones((1, 2), np.float32))


def test_an_exported_program_is_called_though_it_has_no_modes():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Dropout()).eval()
    torch.nn.init.eye_(module[0].weight)
    exported = torch.export.export(module, (torch.ones(3, 2),)).module()

    assert format_torch.knows(exported)
    y = format_torch.caller(exported)(np.ones((3, 2), np.float32))
    np.testing.assert_array_equal(y, np.ones((3, 2)))


def test_modules_are_known_and_nothing_else_is():
    assert format_torch.knows(Module())
    assert not format_torch.knows(torch.ones(1))
    assert not format_torch.knows(str.upper)


@pytest.mark.parametrize(
    ("module", "fate"),
    [
        (Module(), "keep"),
        (torch.nn.Softmax(), "keep"),
        (Module().to("meta"), "refuse"),  # stands for a GPU
        (torch.nn.BatchNorm1d(2, affine=False).to("meta"), "refuse"),
    ],
    ids=["parameters", "nothing", "elsewhere", "buffers elsewhere"],
)
def test_a_module_lives_on_in_a_forked_child_unless_it_is_on_a_device(module, fate):
    assert format_torch.after_fork(module) == fate
