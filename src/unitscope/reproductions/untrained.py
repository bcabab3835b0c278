"""A network's untrained twin: what its wiring, without what it has learned, gives on the same images."""

from __future__ import annotations

import copy

import torch
from torch import nn

from unitscope.errors import BadInput
from unitscope.networks import Network
from unitscope.recording.batches import batches
from unitscope.stimuli.images import Images
from unitscope.stimuli.presentation import Presentation

WARM_UP_IMAGES = 256
"""From how many images batch normalizations take the mean and variance of what they see."""


def untrained_network(network: Network, images: Images, *, seed: int) -> Network:
    """The same network with new random weights, whose batch normalizations have seen evenly spaced images.

    Without these `WARM_UP_IMAGES` images most units of an untrained network would respond always, or never. No other
    random state is touched. Raises BadInput for a module that cannot be drawn anew.
    """
    module = copy.deepcopy(network.module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in module.modules():
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()
            elif next(part.parameters(recurse=False), None) is not None:
                raise BadInput(f"a {type(part).__name__} cannot be drawn anew; there is no untrained {network.name}.")
    twin = Network(
        module, size=network.size, mean=network.mean, std=network.std, order=network.order,
        name=f"{network.name}, untrained", weights=f"random (seed {seed})", classes=network.classes,
    )  # fmt: skip
    accustom(twin, images)
    return twin


def accustom(network: Network, images: Images) -> None:
    """Let batch normalizations see what the network is going to be shown."""
    norms = [part for part in network.module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        # momentum None: running statistics are plain averages over all batches, in whatever order.
        norm.momentum = None
        norm.train()
    step = max(1, len(images) // WARM_UP_IMAGES)
    few = Images(images.items[::step], images.sizes[::step], lambda i: images.bytes(i * step), images.source)
    shown = Presentation(network.size, None)
    with torch.no_grad():
        for batch in batches(few, shown, first=0, last=min(WARM_UP_IMAGES, len(few)), batch=32, workers=1):
            network.module(network.prepare(batch.pictures.to(network.device).float() / 255))
    network.module.eval()
