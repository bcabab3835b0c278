"""The table of operations: one row each, and questions that must not be mixed up."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unitscope.anatomy.node_names import operation_of
from unitscope.anatomy.operations import (
    KINDS,
    TABLE,
    arguments_by_name,
    functional_twin,
    is_elementwise,
    kind,
    plain_name,
    written_tensors,
)

aten = torch.ops.aten


def test_each_name_stands_in_one_row_only():
    words = [line.split()[0] for line in TABLE.strip().splitlines()[1:] if line]
    assert len(words) == len(set(words))
    assert len(KINDS) == sum(
        1 + sum(column not in vars(kind("")) and column != "-" for column in line.split()[1:])
        for line in TABLE.strip().splitlines()[1:]
        if line
    )


@pytest.mark.parametrize(
    ("name", "word"),
    [("re_lu", "relu"), ("native_batch_norm", "batch_norm"), ("convolution", "conv2d"), ("my_own", "my_own")],
)
def test_one_word_for_the_names_of_an_operation(name: str, word: str):
    assert kind(name).word == operation_of(name) == word


def test_a_gated_linear_unit_is_a_nonlinearity_and_not_elementwise():
    assert kind("glu").nonlinear
    assert not kind("glu").elementwise
    assert not kind("glu").per_channel
    assert not kind("softmax").nonlinear


@pytest.mark.parametrize("name", sorted(name for name, one in KINDS.items() if one.increasing))
def test_increasing_operations_never_turn_the_order_round(name: str):
    module = {"leaky_relu": nn.LeakyReLU(), "leaky_re_lu": nn.LeakyReLU(), "clamp_min": lambda x: x.clamp_min(0.3)}
    function = module.get(name) or getattr(nn.functional, {"re_lu": "relu", "re_lu6": "relu6"}.get(name, name))
    assert (function(torch.linspace(-9, 9, 1000)).diff() >= 0).all()


@pytest.mark.parametrize("name", sorted(name for name, one in KINDS.items() if one.nonlinear and one.elementwise))
def test_elementwise_nonlinearities_keep_places_apart(name: str):
    function = getattr(nn.functional, name, None)
    if function is None or name in ("prelu", "threshold", "rrelu"):
        pytest.skip("it needs further arguments, or goes by another name")
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(function(x)[:, 1:2, 1:, :1], function(x[:, 1:2, 1:, :1].contiguous()))


def test_what_torch_marks_as_pointwise_is_elementwise():
    assert is_elementwise("hypot", aten.hypot.default)
    assert is_elementwise("clone", aten.clone.default)
    assert not is_elementwise("convolution", aten.convolution.default)


def test_in_place_operations_have_a_functional_twin():
    assert functional_twin(aten.relu_.default) is aten.relu.default
    assert functional_twin(aten.add_.Tensor) is aten.add.Tensor
    assert functional_twin(aten.add.Tensor) is None
    assert functional_twin(aten.normal_.default) is None


def test_schemas_tell_arguments_and_what_is_written_to():
    x, y = torch.zeros(2), torch.ones(2)
    arguments = arguments_by_name(aten.add_.Tensor, (x, y), {})
    assert list(arguments) == ["self", "other", "alpha"]
    assert [tensor is x for tensor in written_tensors(aten.add_.Tensor, arguments)] == [True]
    assert written_tensors(aten.add.Tensor, arguments) == []
    assert plain_name(aten.add_.Tensor) == "add"
