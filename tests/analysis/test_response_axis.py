"""Images along a unit's response axis."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests import wiring
from unitscope.analysis.response_axis import quiet
from unitscope.networks import Network
from unitscope.recording.survey import survey


def test_an_image_is_quiet_where_neither_peak_nor_trough_is_far_from_zero(tmp_path: Path) -> None:
    """A unit that answers with the brightness beyond middle gray, to pictures of two shades each."""
    module = torch.nn.Conv2d(3, 1, 1, bias=False)
    torch.nn.init.constant_(module.weight, 1 / 3)
    shades = [(0, 153), (128, 128), (100, 140)]
    pictures = [torch.tensor(pair).repeat(3, 8, 4) / 255 for pair in shades]
    wiring.write_folder(tmp_path / "images", {"a": pictures})
    network = Network(module, size=8, mean=(0.5,) * 3, std=(1.0,) * 3)
    record = survey(network, tmp_path / "images", to=tmp_path / "record", sites="*", resize=8, responses=True)
    found = quiet(record, next(iter(record.sites.values())), count=3)
    assert found is not None
    assert found.image.tolist() == [[1, 2, 0]]
    assert found.value[0].tolist() == pytest.approx([0.5 / 255, -27.5 / 255, -127.5 / 255], abs=1e-5)
