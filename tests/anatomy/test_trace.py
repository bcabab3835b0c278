"""Programs must give the very bits of the network, whatever it does to its memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from unitscope.anatomy.operations import kind
from unitscope.anatomy.program import OUTSIDE_TORCH, OVERWRITTEN, Program, Value, compute
from unitscope.anatomy.trace import record
from unitscope.anatomy.value_hooks import hook_values
from unitscope.errors import BadInput


class Behind(nn.Module):
    """A convolution, and what a function makes of its output."""

    def __init__(self, deed: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.deed, self.conv = deed, nn.Conv2d(3, 4, 3, padding=1)
        self.register_buffer("table", torch.arange(8.0).view(1, 8, 1, 1))

    def forward(self, x: Tensor) -> Any:
        return self.deed(self.conv(x))


def pictures(seed: int) -> Tensor:
    return torch.rand(2, 3, 9, 8, generator=torch.Generator().manual_seed(seed))


def output(program: Program, facts: dict[Value, Tensor]) -> Any:
    return tree_map(lambda leaf: facts[leaf] if isinstance(leaf, Value) else leaf, program.output)


def assert_same_bits(module: nn.Module) -> Program:
    """The program made of one picture gives what the network gives for another."""
    program = record(module, pictures(0))
    for seed in (0, 1):
        with torch.no_grad():
            facts = program.run({program.origin: pictures(seed)}, compute)
            torch.testing.assert_close(output(program, facts), module(pictures(seed)), rtol=0, atol=0)
        for value, tensor in facts.items():
            assert (tuple(tensor.shape), tensor.stride(), tensor.dtype) == (value.shape, value.stride, value.dtype)
    return program


def halves_swapped(y: Tensor) -> Tensor:
    out = torch.empty_like(y)
    out[:, :2], out[:, 2:] = y[:, 2:], y[:, :2].flip(2)
    return out.relu()


def one_by_one(y: Tensor) -> Tensor:
    out = torch.zeros(len(y), 4, *y.shape[2:])
    for channel in range(4):
        out[:, channel] = y[:, 3 - channel]
    return out.relu()


def through_a_view(y: Tensor) -> Tensor:
    y[:, :2].sigmoid_()
    return y.relu()


def view_made_before(y: Tensor) -> Tensor:
    half, turned = y[:, 1:3], y.transpose(2, 3)
    y.relu_().mul_(2)
    return half.sum((2, 3)) + turned.amax((2, 3))[:, 1:3]


def view_of_a_view(y: Tensor) -> Tensor:
    row = y[:, :, 2]
    row[:, 1:].add_(y[:, 1:, 3]).clamp_(0, 1)
    y[:, 0] = 7
    return y * row[:, :, None]


def read_before_and_after(y: Tensor) -> Tensor:
    before = y + 0
    doubled = y.mul_(2)
    return before - doubled + y


def constant_written_to(y: Tensor) -> Tensor:
    table = torch.linspace(0, 1, 4).view(1, 4, 1, 1).repeat(2, 1, 1, 1)
    first = table[:, :2]
    result = y * table
    table += y.mean((2, 3), keepdim=True)
    return result[:, :2] * first


def constant_changed_by_a_constant(y: Tensor) -> Tensor:
    table = torch.ones(4, 1, 1)
    first = y * table
    table.mul_(3)
    return first + y * table


def by_out(y: Tensor) -> Tensor:
    out = torch.zeros_like(y)
    torch.add(y, 1, out=out)
    return out.relu_()


def many_results(y: Tensor) -> Any:
    values, places = y.max(1)
    first, second = y.chunk(2, 1)
    return {"values": values, "places": places, "parts": [first, second.relu()]}


def without_twin(y: Tensor) -> Tensor:
    y.flatten(1)[:, :2].fill_diagonal_(7.0)
    return y + 1


def channels_last(y: Tensor) -> Tensor:
    return F.conv2d(y.contiguous(memory_format=torch.channels_last).relu_(), torch.ones(2, 4, 3, 3))


DEEDS = [
    halves_swapped, one_by_one, through_a_view, view_made_before, view_of_a_view, read_before_and_after,
    constant_written_to, constant_changed_by_a_constant, by_out, many_results, without_twin, channels_last,
]  # fmt: skip


@pytest.mark.parametrize("deed", DEEDS)
def test_a_program_gives_the_bits_of_the_network(deed: Callable[[Tensor], Any]):
    assert_same_bits(Behind(deed).eval())


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=10))
@settings(max_examples=60, deadline=None)
def test_whatever_is_written_through_whatever_view(steps: list[tuple[int, int, int]]):
    def deed(y: Tensor) -> Tensor:
        tensors = [y, torch.linspace(0, 1, y.numel()).view(y.shape)]
        for what, which, other in steps:
            one = tensors[which % len(tensors)]
            if what == 0:
                one.mul_(1.5)
            elif what == 1:
                one.add_(tensors[other % len(tensors)].mean())
            elif what == 2:
                one.copy_(tensors[other % len(tensors)].amax())
            elif what == 3 and one.numel() > 1:
                tensors.append(one.flatten(-1)[..., ::2] if one.shape[-1] > 1 else one[..., :1])
            elif what == 4 and one.ndim > 1:
                tensors.append(one.transpose(0, -1))
            elif what == 5 and len(one) > 1:
                tensors.append(one[1:])
            else:
                tensors.append(one.sigmoid())
        return sum(tensor.sum() for tensor in tensors)  # type: ignore[return-value]

    assert_same_bits(Behind(deed).eval())


def test_views_made_before_a_write_have_a_value_of_their_own():
    program = record(Behind(view_made_before).eval(), pictures(0))
    assert [operation.name for operation in program.operations].count(OVERWRITTEN) == 4
    overwritten = next(one for one in program.operations if one.name == OVERWRITTEN)
    assert [value.shape for value in overwritten.reads] == [(2, 2, 9, 8), (2, 4, 9, 8)]


def test_names_stand_for_values():
    program = record(Behind(lambda y: y.relu_() + 1).eval(), pictures(0))
    assert list(program.named) == ["conv", "relu_", "add"]
    relu = program.named["relu_"]
    assert (relu.word, relu.reads, relu.part, relu.module, relu.position) == ("relu", ("conv",), None, "", 2)
    assert program.named["conv"].reads == ("",)
    assert program.named["conv"].module == "conv"
    assert relu.value is program.operations[1].results[0]
    assert program.named["conv"].value is program.operations[0].results[0]


def test_constants_are_no_operations():
    program = record(
        Behind(lambda y: y + torch.arange(4.0).view(1, 4, 1, 1) * 2 + torch.zeros_like(y)).eval(), pictures(0)
    )
    assert [operation.name for operation in program.operations] == ["convolution", "add", "add"]
    assert isinstance(program.operations[1].arguments["other"], Tensor)


def test_where_values_are_read_or_leave_torch_the_program_says_so():
    def deed(y: Tensor) -> Tensor:
        y = y * 2 if float(y.mean()) > -9 else y
        return torch.from_numpy(np.tanh(y.numpy())).relu()

    program = record(Behind(deed).eval(), pictures(0))
    names = [operation.name for operation in program.operations]
    assert [name for name in names if kind(name).reads_values] == ["_local_scalar_dense", "numpy"]
    assert OUTSIDE_TORCH in names
    assert [look.what for look in program.choices] == ["mean", "mul by numpy"]
    with pytest.raises(ValueError, match="outside torch cannot be run again"):
        program.run({program.origin: pictures(0)}, compute)


def test_shapes_alone_are_those_of_the_full_pass():
    module = nn.Sequential(nn.Conv2d(3, 40, 3), nn.BatchNorm2d(40), nn.ReLU(inplace=True), nn.MaxPool2d(2)).eval()
    x = torch.rand(2, 3, 60, 60)
    full, blank = record(module, x), record(module, torch.zeros_like(x), shape_only=True)
    assert [one.name for one in full.operations] == [one.name for one in blank.operations]
    for one, other in zip(full.operations, blank.operations, strict=True):
        assert [(v.shape, v.stride, v.dtype) for v in one.results] == [
            (v.shape, v.stride, v.dtype) for v in other.results
        ]
    torch.testing.assert_close(blank.run({blank.origin: x}, compute)[blank.output], module(x), rtol=0, atol=0)


# from a site on


@pytest.mark.parametrize("inplace", [False, True])
def test_behind_a_site_the_altered_network(inplace: bool):
    def deed(y: Tensor) -> Tensor:
        z = F.relu(y.add_(0.1), inplace=inplace)
        return z * 3 + y.mean() if inplace else z.flip(1) + y

    module, x = Behind(deed).eval(), pictures(3)
    program = record(module, x, start="relu")
    other = torch.full((2, 4, 9, 8), 0.5)
    replayed = output(program, program.run({program.origin: other}, compute))
    with torch.no_grad(), hook_values(module, lambda name, _: other.clone() if name == "relu" else None):
        expected = module(x)
    torch.testing.assert_close(replayed, expected, rtol=0, atol=0)


def test_what_is_behind_a_value_can_be_run_by_itself():
    module, x = Behind(lambda y: (y.relu() * 2) + y.sigmoid()).eval(), pictures(1)
    program = record(module, x)
    facts = program.run({program.origin: x}, compute)
    relu = program.named["relu"].value
    assert relu is not None
    behind = program.behind(relu)
    assert [operation.name for operation in behind] == ["mul", "add"]
    altered = program.run({**facts, relu: torch.zeros_like(facts[relu])}, compute, operations=behind)
    torch.testing.assert_close(altered[program.output], facts[program.named["sigmoid"].value], rtol=0, atol=0)  # type: ignore[index]


def test_a_site_that_the_network_does_not_pass():
    with pytest.raises(BadInput, match="did not pass nowhere"):
        record(Behind(lambda y: y).eval(), pictures(0), start="nowhere")


# the interpreter


def test_readers_makers_before_and_behind():
    program = record(Behind(lambda y: y.relu() + y.sigmoid()).eval(), pictures(0))
    conv, relu = (program.named[name].value for name in ("conv", "relu"))
    assert conv is not None
    assert relu is not None
    assert [one.name for one in program.readers[conv]] == ["relu", "sigmoid"]
    assert program.makers[relu].name == "relu"
    assert program.origin not in program.makers
    assert [one.name for one in program.before(relu)] == ["convolution", "relu"]
    assert [one.name for one in program.behind(relu)] == ["add"]
    assert [one.name for one in program.behind(conv, since=2)] == ["sigmoid", "add"]


def test_only_what_is_kept_stays():
    program = record(Behind(lambda y: y.relu().sigmoid() + 1).eval(), pictures(0))
    relu = program.named["relu"].value
    assert relu is not None
    most = 0
    facts: dict[Value, Tensor] = {program.origin: pictures(0)}
    for _ in program.steps(facts, compute, keep={relu}):
        most = max(most, len(facts))
    assert list(facts) == [relu]
    assert most <= 3


def test_needs_go_backward_and_join():
    program = record(Behind(lambda y: y.relu() + y.sigmoid()).eval(), pictures(0))
    needs = program.back(
        {program.output: 1}, lambda operation, wanted: dict.fromkeys(operation.reads, sum(wanted)), lambda a, b: a + b
    )
    conv = program.named["conv"].value
    assert conv is not None
    assert (needs[conv], needs[program.origin]) == (2, 2)
