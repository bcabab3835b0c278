"""A network is as it was after it ran, whatever it did."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unitscope.pristine import RANDOM_STATE, draw_from, keep_pristine

PICTURES = torch.linspace(0, 1, 2 * 3 * 4 * 4).view(2, 3, 4, 4)


class Memory:
    """A user's own object that a module holds."""

    def __init__(self) -> None:
        self.count, self.maps = 0, list[Tensor]()


class Restless(nn.Module):
    """Changes itself in one of many ways when it runs."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.calls, self.last = way, 0, None
        self.weight, self.table = nn.Parameter(torch.ones(3)), np.zeros(3)
        self.register_buffer("scale", torch.ones(3))
        self.register_buffer("mean", torch.full((3,), torch.nan))
        self.maps, self.named, self.queue = list[Tensor](), dict[str, Any](), deque([1, 2])
        self.memory, self.hidden = Memory(), [nn.BatchNorm2d(3).train()]
        self.generator = torch.Generator().manual_seed(0)
        self.pair = (torch.zeros(2), torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        getattr(self, f"do_{self.way}")(x)
        return x

    def do_buffer(self, _: Tensor) -> None:
        self.scale.mul_(2)

    def do_buffer_of_nan(self, x: Tensor) -> None:
        self.mean.copy_(x.mean((0, 2, 3)))

    def do_buffer_replaced(self, x: Tensor) -> None:
        self.scale = x.mean((0, 2, 3))

    def do_minus_zero(self, _: Tensor) -> None:
        self.pair[0].neg_()

    def do_weight(self, _: Tensor) -> None:
        with torch.no_grad():
            self.weight.add_(1)

    def do_weight_data(self, _: Tensor) -> None:
        self.weight.data.add_(1)

    def do_weight_other_memory(self, _: Tensor) -> None:
        self.weight.data = torch.zeros(3)

    def do_view(self, _: Tensor) -> None:
        self.scale[1:].view(2, 1)[0] = 7

    def do_out(self, _: Tensor) -> None:
        torch.add(self.scale, 1, out=self.scale)

    def do_count(self, _: Tensor) -> None:
        self.calls += 1

    def do_attribute(self, x: Tensor) -> None:
        self.last = x

    def do_new_attribute(self, x: Tensor) -> None:
        self.fresh = x

    def do_list(self, x: Tensor) -> None:
        self.maps.append(x)

    def do_dictionary(self, x: Tensor) -> None:
        self.named["x"] = x

    def do_queue(self, _: Tensor) -> None:
        self.queue.popleft()

    def do_object(self, x: Tensor) -> None:
        self.memory.count += 1
        self.memory.maps.append(x)

    def do_hidden_module(self, x: Tensor) -> None:
        self.hidden[0](x)

    def do_array(self, _: Tensor) -> None:
        self.table += 1

    def do_tuple(self, _: Tensor) -> None:
        self.pair[1].fill_(3)

    def do_mode(self, _: Tensor) -> None:
        self.train()

    def do_own_generator(self, _: Tensor) -> None:
        torch.rand(3, generator=self.generator)


WAYS = [name.removeprefix("do_") for name in dir(Restless) if name.startswith("do_")]


def state_of(module: Restless) -> list[Any]:
    tensors = [
        module.weight,
        module.scale,
        module.mean,
        *module.pair,
        *module.maps,
        *module.hidden[0].state_dict().values(),
    ]
    return [
        [(tensor.tolist(), tensor.data_ptr()) for tensor in tensors], module.calls, module.last, module.named,
        list(module.queue), module.memory.count, len(module.memory.maps), module.table.tolist(), module.training,
        sorted(vars(module)), id(module.scale),
        module.generator.get_state().tolist(),
    ]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_whatever_a_network_changes_is_put_back_and_named(way: str) -> None:
    module = Restless(way).eval()
    before = repr(state_of(module))
    with torch.no_grad():
        module(PICTURES)
        assert repr(state_of(module)) != before  # it does change
        module = Restless(way).eval()
        before = repr(state_of(module))
        with keep_pristine(module) as trace:
            module(PICTURES)
    assert repr(state_of(module)) == before
    assert trace.changes


def fail(_: Tensor) -> None:
    raise RuntimeError("nothing comes of it")


def test_after_an_exception_too() -> None:
    module = Restless("weight").eval()
    with pytest.raises(RuntimeError, match="nothing"), keep_pristine(module):
        fail(module(PICTURES))
    assert module.weight.tolist() == [1, 1, 1]


@pytest.mark.parametrize("draw", [lambda: torch.rand(2), lambda: np.random.rand()])  # noqa: NPY002
def test_random_states_are_put_back(draw: Any) -> None:
    module = nn.Identity()
    with keep_pristine(module) as trace:
        first = repr(draw())
    assert trace.changes == [RANDOM_STATE]
    assert repr(draw()) == first


def test_a_quiet_network_changes_nothing_and_nothing_is_copied() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)).eval()
    with torch.no_grad(), keep_pristine(module) as trace:
        module(PICTURES)
    assert trace.changes == []


def test_numbers_drawn_from_a_seed_are_the_same_and_leave_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    drawn = []
    for _ in range(2):
        with draw_from(3, nn.Identity()):
            drawn.append((torch.rand(2).tolist(), random.random(), np.random.rand()))  # noqa: NPY002
    assert drawn[0] == drawn[1]
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_scripted_buffers_are_put_back() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.count.add_(1)
            return x + self.count

    module = torch.jit.script(Counts())
    with keep_pristine(module) as trace:
        module(PICTURES)
    assert trace.changes == ["count"]
    assert module.count.item() == 0
