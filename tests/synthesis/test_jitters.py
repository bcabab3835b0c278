"""Jitters: how far pictures are moved."""

from __future__ import annotations

import pytest
import torch

from unitscope.synthesis.jitters import Sway


def test_a_picture_is_moved_by_pixels_but_by_no_more_than_an_eighth_of_it() -> None:
    """A blob on 16 x 64 pixels: up to 2 pixels up or down, up to 4 to the left or right."""
    rows, cols = torch.arange(16)[:, None] - 7.5, torch.arange(64)[None, :] - 31.5
    blob = torch.exp(-(rows**2 + cols**2) / 4)[None, None]
    chance = torch.rand(4, generator=torch.Generator().manual_seed(3))
    moved = Sway(shift=4, scale=(1, 1), turn=0)(blob, [torch.Generator().manual_seed(3)])[0, 0]
    down, right = (float((moved * at).sum() / moved.sum()) for at in (rows, cols))
    assert right == pytest.approx(-4 * float(2 * chance[2] - 1), abs=0.05)
    assert down == pytest.approx(-2 * float(2 * chance[3] - 1), abs=0.05)
