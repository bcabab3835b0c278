"""A program is kept as long as its network stays the same, and no longer."""

from __future__ import annotations

import gc
from collections.abc import Callable
from weakref import ref

import pytest
import torch
from torch import nn

from unitscope.anatomy.program_cache import KEPT
from unitscope.anatomy.sites import program_of
from unitscope.networks import Network


def network() -> Network:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.1), nn.BatchNorm2d(4), nn.Sequential(nn.ReLU()))
    module.settings = {"sizes": [1, 2]}  # type: ignore[assignment]
    return Network(module, size=8, mean=(0.5,) * 3, std=(0.25,) * 3)


def test_the_same_network_is_recorded_once():
    one = network()
    assert program_of(one) is program_of(one)
    assert program_of(Network(one.module, size=8, mean=(0.0,) * 3, std=(1.0,) * 3)) is program_of(one)


def replace_part(module: nn.Module) -> None:
    module[1] = nn.ReLU()


CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "a slope": lambda module: setattr(module[1], "negative_slope", 0.2),
    "a part": replace_part,
    "weights": lambda module: module.load_state_dict(network().module.state_dict()),
    "weights through data": lambda module: module[0].weight.data.add_(1),
    "a weight": lambda module: setattr(module[0], "bias", nn.Parameter(torch.zeros(4))),
    "statistics": lambda module: module[2].running_mean.add_(1),
    "its type": lambda module: module.double(),
    "training": lambda module: module[1].train(),
    "its forward": lambda module: setattr(module[3][0], "forward", torch.sigmoid),
    "a list": lambda module: module.settings["sizes"].append(3),
    "a hook": lambda module: module[1].register_forward_hook(lambda *_: None),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_network_that_has_changed_is_recorded_again(what: str):
    one = network()
    before = program_of(one)
    CHANGES[what](one.module)
    assert program_of(one) is not before
    assert program_of(one) is program_of(one)


def test_another_size_is_another_program():
    one = network()
    before = program_of(one)
    one.size = (9, 8)
    assert program_of(one) is not before


def test_a_kept_program_keeps_no_network_alive():
    one = network()
    program_of(one)
    gone, count = ref(one.module), len(KEPT)
    del one
    gc.collect()
    assert gone() is None
    assert len(KEPT) < count
