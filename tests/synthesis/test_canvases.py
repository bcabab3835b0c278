"""Canvases: colors of networks that want blue first."""

from __future__ import annotations

import torch

from unitscope.synthesis.canvases import Contrast, Scene
from unitscope.vocabulary import Box


def test_pictures_of_a_network_that_wants_blue_first_are_red_green_blue() -> None:
    """Mean and standard deviation are in the network's own order."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.1, 0.2, 0.3), (0.5, 0.4, 0.2)))
    inside = torch.ones((1, 1, 2, 2), dtype=torch.bool)
    scene = Scene((Box(0, 0, 2, 2),), mean, std, (2, 2), True, inside)
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).repeat(1, 1, 2, 2)
    whitened = scene.whiten(red)
    torch.testing.assert_close(whitened[0, :, 0, 0], torch.tensor([-0.2, -0.5, 3.5]))
    torch.testing.assert_close(scene.color(whitened), red)
    torch.testing.assert_close(Contrast.middle(scene).flatten(), torch.tensor([0.3, 0.2, 0.1]))
