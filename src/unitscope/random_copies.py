"""The same network before training: what an architecture brings by itself, as a baseline for what was learned."""

from __future__ import annotations

import copy

import torch
from torch import nn

from unitscope.networks import Network


def untrained(network: Network, *, seed: int) -> Network:
    """A copy of the network with random weights, drawn from `seed`; no other random state is touched.

    Convolutions as in he2016 (normal, fan out), batch normalizations as if they were not there (gain 1, offset 0,
    running mean 0 and variance 1), all else as torch begins it.
    """
    module = copy.deepcopy(network.module).cpu()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        for part in module.modules():
            if callable(begin := getattr(part, "reset_parameters", None)):
                begin()
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
                if part.bias is not None:
                    part.bias.zero_()
    made = Network(
        module, size=network.size, mean=network.mean, std=network.std, order=network.order, name=network.name,
        weights=f"random (seed {seed})", classes=network.classes,
    )  # fmt: skip
    return made.to(network.device)
