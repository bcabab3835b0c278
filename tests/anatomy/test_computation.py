"""A network is its weights and what it computes: whatever changes an operation changes the fingerprint, and nothing
else.
"""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unitscope.anatomy.computation import computation_of, identity_of, operations_of
from unitscope.network_facts import difference
from unitscope.networks import Network


class Layers(nn.Module):
    """A bit of everything that has constants."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.LeakyReLU(0.1)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.one = nn.Conv2d(4, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 4, 3, padding=1)
        self.group = nn.GroupNorm(2, 4)
        self.act = nn.ReLU()
        self.gain = 0.5
        self.table = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
        self.register_buffer("mask", torch.ones(1, 4, 1, 1), persistent=False)

    def forward(self, x):
        x = self.pool(self.relu(self.norm(self.conv(x))))
        y = self.act(self.group(self.two(self.one(x) + x)))
        y = F.interpolate(y * self.gain * self.mask, size=(8, 8), mode="bilinear", align_corners=False)
        return y.mean((2, 3)) @ torch.cat([self.table, self.table]).expand(4, 2)


def network(module, *, size=16, inputs=3):
    return Network(module.eval(), size=size, mean=[0.5] * inputs, std=[0.25] * inputs)


@pytest.fixture
def module():
    torch.manual_seed(0)
    return Layers()


def change(path, value):
    def edit(module):
        *owners, name = path.split(".")
        for owner in owners:
            module = getattr(module, owner)
        setattr(module, name, value)

    return edit


def by_hand(module):
    module.relu.forward = lambda x: torch.where(x > 0, x, 0.2 * x)


EDITS = {
    "dilation": change("one.dilation", (2, 2)),
    "padding": change("one.padding", (2, 2)),
    "padding mode": change("conv.padding_mode", "circular"),
    "stride": change("conv.stride", (2, 2)),
    "eps": change("norm.eps", 1e-3),
    "groups of a normalization": change("group.num_groups", 4),
    "slope": change("relu.negative_slope", 0.5),
    "another rectifier": change("act", nn.GELU()),
    "its approximation": change("act", nn.GELU("tanh")),
    "pooling": change("pool", nn.AvgPool2d(3, 2, 1)),
    "kernel of the pooling": change("pool.kernel_size", 2),
    "ceil mode": change("pool.ceil_mode", True),
    "a number": change("gain", 0.25),
    "a tensor that is no buffer": change("table", torch.tensor([[0.1, 0.2], [0.4, 0.3]])),
    "a buffer that is not kept": change("mask", torch.tensor([1.0, 1.0, 0.0, 1.0]).view(1, 4, 1, 1)),
    "a patched forward": by_hand,
    "a normalization in training mode": lambda module: module.norm.train(),
}


@pytest.mark.parametrize("edit", EDITS)
def test_whatever_is_computed_otherwise_is_seen(module, edit):
    one = network(module)
    before = computation_of(one)
    EDITS[edit](module)
    assert computation_of(one) != before


def test_layers_of_equal_shape_that_are_run_in_another_order(module):
    before = computation_of(network(module))

    class Exchanged(Layers):
        def forward(self, x):
            x = self.pool(self.relu(self.norm(self.conv(x))))
            y = self.act(self.group(self.one(self.two(x) + x)))
            y = F.interpolate(y * self.gain * self.mask, size=(8, 8), mode="bilinear", align_corners=False)
            return y.mean((2, 3)) @ torch.cat([self.table, self.table]).expand(4, 2)

    assert computation_of(network(Exchanged())) != before


def test_which_value_an_operation_reads_counts():
    class Branches(nn.Module):
        def __init__(self, which):
            super().__init__()
            self.conv, self.which = nn.Conv2d(3, 3, 3, padding=1), which

        def forward(self, x):
            a = self.conv(x)
            return torch.relu(a) + (x, a)[self.which]

    assert computation_of(network(Branches(0))) != computation_of(network(Branches(1)))


def test_a_write_to_shared_memory_counts():
    class Writes(nn.Module):
        def __init__(self, copied):
            super().__init__()
            self.conv, self.copied = nn.Conv2d(3, 4, 3, padding=1), copied

        def forward(self, x):
            y = self.conv(x)
            part = y[:, :2].clone() if self.copied else y[:, :2]
            part.relu_()
            return y

    assert computation_of(network(Writes(True))) != computation_of(network(Writes(False)))


def test_the_size_of_the_picture_counts(module):
    assert computation_of(network(module)) != computation_of(network(module, size=32))


# What is no other computation


SAME = {
    "new weights": lambda module: [torch.nn.init.normal_(p) for p in module.parameters()],
    "channels last": lambda module: module.to(memory_format=torch.channels_last),
    "in place": change("act.inplace", True),
    "momentum of a normalization": change("norm.momentum", 0.3),
    "no gradients": lambda module: module.requires_grad_(False),
}


@pytest.mark.parametrize("edit", SAME)
def test_what_computes_the_same_has_the_same_fingerprint(module, edit):
    before = operations_of(network(module))
    SAME[edit](module)
    assert operations_of(network(module)) == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_copy_computes_the_same():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(784, 2))
    one = operations_of(network(module))
    assert operations_of(network(torch.jit.script(module))) == one
    assert operations_of(network(torch.jit.trace(module, torch.rand(2, 3, 16, 16)))) == one


class Keeps(nn.Module):
    """Makes a table in its first pass, for the number of pictures that it sees, and counts its passes."""

    def __init__(self):
        super().__init__()
        self.conv, self.table, self.passes = nn.Conv2d(3, 4, 3), None, 0
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x):
        self.passes += 1
        self.count += 1
        if self.table is None or len(self.table) != len(x):
            self.table = torch.linspace(0, 1, 4).view(1, 4, 1, 1).repeat(len(x), 1, 1, 1)
        return self.conv(x) * self.table


def test_a_table_made_in_the_first_pass_is_the_same_table_later():
    one = network(Keeps())
    before, state = operations_of(one), copy.deepcopy(one.module.state_dict())
    assert one.module.table is None
    assert one.module.passes == 0
    assert torch.equal(one.module.count, state["count"])
    one.module(torch.rand(5, 3, 16, 16))
    assert operations_of(one) == before
    one.module.table = one.module.table * 2
    assert operations_of(network(Keeps())) == before


class Chooses(nn.Module):
    """Has a branch that a blank picture does not take, with a slope of its own."""

    def __init__(self, slope=0.1):
        super().__init__()
        self.conv, self.slope = nn.Conv2d(3, 4, 3), slope

    def forward(self, x):
        y = self.conv(x)
        return F.leaky_relu(y, self.slope) if y.mean() > 100 else y


class ByNumpy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return torch.from_numpy(np.tanh(self.conv(x).detach().numpy()))


class ByNumpyOtherwise(ByNumpy):
    def forward(self, x):
        return torch.from_numpy(np.sin(self.conv(x).detach().numpy()))


def test_where_values_decide_or_leave_torch_the_text_counts():
    assert computation_of(network(Chooses(0.1))) != computation_of(network(Chooses(0.2)))
    assert computation_of(network(Chooses(0.1))) == computation_of(network(Chooses(0.1)))
    assert computation_of(network(ByNumpy())) != computation_of(network(ByNumpyOtherwise()))


def test_chance_is_an_operation_and_no_chance_of_the_caller_is_used_up():
    class Noisy(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.conv, self.scale = nn.Conv2d(3, 4, 3), scale

        def forward(self, x):
            y = self.conv(x)
            return y + self.scale * torch.randn_like(y) + torch.rand(1) + float(np.random.rand())  # noqa: NPY002

    chance = torch.get_rng_state()
    assert computation_of(network(Noisy(0.1))) == computation_of(network(Noisy(0.1)))
    assert computation_of(network(Noisy(0.1))) != computation_of(network(Noisy(0.2)))
    torch.set_rng_state(chance)


@pytest.mark.filterwarnings("ignore")
def test_quantized_layers_by_their_weights():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    other = copy.deepcopy(module)
    nn.init.normal_(other[4].weight)
    one, again, another = (
        network(torch.ao.quantization.quantize_dynamic(each, {nn.Linear})) for each in (module, module, other)
    )
    assert computation_of(one) == computation_of(again) != computation_of(another)


def test_networks_exported_for_one_picture_or_two():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    for stimuli in (1, 2):
        program = torch.export.export(module, (torch.rand(stimuli, 3, 16, 16),))
        assert operations_of(network_of(program.module()))[0] == f"picture ({stimuli}, 3, 16, 16)"


def network_of(module):
    return Network(module, size=16, mean=[0.5] * 3, std=[0.25] * 3)


def test_a_network_that_cannot_be_run_goes_by_its_text():
    class Fails(nn.Module):
        def __init__(self, number):
            super().__init__()
            self.number = number

        def forward(self, x):
            raise RuntimeError(f"{x.shape} is never right")

    assert computation_of(network(Fails(1))) == computation_of(network(Fails(1)))
    assert computation_of(network(Fails(1))) != computation_of(network(Fails(2)))


def test_in_inference_mode_it_is_the_same(module):
    before = computation_of(network(module))
    with torch.inference_mode():
        assert computation_of(network(module)) == before
    torch.set_grad_enabled(False)
    try:
        assert computation_of(network(module)) == before
    finally:
        torch.set_grad_enabled(True)


# Comparing


def test_networks_are_told_apart_by_weights_and_by_operations(module, caplog):
    one = network(module)
    facts = identity_of(one)
    assert difference(facts, identity_of(one)) == ""
    module.relu.negative_slope = 0.5
    assert difference(facts, identity_of(one)) == "operations or constants (with the same weights)"
    with torch.no_grad():
        module.conv.weight.mul_(2)
    assert difference(facts, identity_of(one)) == "weights or preprocessing"
    assert not caplog.records


def test_what_an_old_record_does_not_say_is_not_compared_and_that_is_said(module, caplog):
    facts = identity_of(network(module))
    with caplog.at_level(logging.WARNING):
        assert difference({"name": "x", "fingerprint": facts["fingerprint"]}, facts) == ""
    assert "only weights and preprocessing were compared" in caplog.text
    assert "an older unitscope" in caplog.text
    with caplog.at_level(logging.WARNING):
        assert difference(facts | {"computation": "1/torch 1.0/abc"}, facts) == ""
    assert "another version of torch (1/torch 1.0)" in caplog.text
