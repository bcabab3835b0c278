"""Inference mode, the network's own or the caller's, hides nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitscope.anatomy.inference import without_inference_mode
from unitscope.anatomy.site_graph import graph_of
from unitscope.anatomy.sites import sites
from unitscope.anatomy.value_hooks import hook_values


class Served(nn.Module):
    """A network that decorates its own forward pass."""

    def __init__(self, decorate: Callable[[Callable], Callable]) -> None:
        super().__init__()
        self.one, self.full = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.served = decorate(self.run)

    def run(self, x: Tensor) -> Tensor:
        y = F.max_pool2d(self.one(x).relu_(), 2)
        y = F.batch_norm(y, torch.zeros(4), torch.ones(4))
        return self.full(y.mean((2, 3)).reshape(len(y), -1))

    def forward(self, x: Tensor) -> Tensor:
        return self.served(x)


def facts(module: nn.Module) -> list[tuple[str, str, str]]:
    found = sites(SimpleNamespace(module=module.eval(), size=(12, 12), inputs=3))
    return [(site.name, str(site.field()), site.field().status) for site in found.values()]


PLAIN = facts(Served(lambda run: run))


@pytest.mark.parametrize("decorate", [torch.inference_mode(), torch.inference_mode, torch.no_grad()])
def test_fields_are_those_of_the_same_network_without(decorate: Callable[[Callable], Callable]):
    assert {status for _, _, status in PLAIN} == {"exact", "whole image"}
    assert facts(Served(decorate)) == PLAIN
    with torch.inference_mode():
        made_there = Served(decorate)
        assert facts(made_there) == PLAIN
        assert "full" in graph_of(SimpleNamespace(module=made_there, size=(12, 12), inputs=3))


def test_gradients_flow_through_a_network_in_inference_mode():
    module, heard = Served(torch.inference_mode()).eval(), []
    picture = torch.rand(1, 3, 12, 12, requires_grad=True)
    with hook_values(module, lambda name, value: heard.append(value) if name == "one" else None):
        module(picture)
    (gradient,) = torch.autograd.grad(heard[0].sum(), picture)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("gradients", [True, False])
def test_gradients_stay_as_they_were_and_other_threads_keep_their_mode(gradients: bool):
    elsewhere: list[bool] = []

    def serve() -> None:
        with torch.inference_mode():
            elsewhere.append(torch.ones(1).is_inference())

    with torch.set_grad_enabled(gradients):
        with without_inference_mode():
            assert torch.is_grad_enabled() is gradients
            with torch.inference_mode():
                assert not torch.is_inference_mode_enabled()
            thread = threading.Thread(target=serve)
            thread.start()
            thread.join()
        assert torch.is_grad_enabled() is gradients
    assert elsewhere == [True]
    with torch.inference_mode():
        assert torch.is_inference_mode_enabled()
        with without_inference_mode():
            assert not torch.is_inference_mode_enabled()
        assert torch.is_inference_mode_enabled()
