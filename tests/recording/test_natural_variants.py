"""Preferred patches shown again: in gray, turned, mirrored."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.recording.pictures import write_many
from tests.wiring import gabor
from unitscope import tuning_session
from unitscope.analysis.natural_indices import index_of
from unitscope.errors import BadInput
from unitscope.networks import Network
from unitscope.record import Record
from unitscope.recording.natural_variants import CHANGES, make_variants
from unitscope.recording.survey import survey
from unitscope.stimuli.color import XYZ_OF_LINEAR, decode_srgb
from unitscope.vocabulary import Box


def spot(color: tuple[float, float, float], *, side: int = 7) -> torch.Tensor:
    axis = torch.arange(side) - side // 2
    round_ = torch.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / 4)
    return (round_ / round_.sum()) * torch.tensor(color)[:, None, None]


def network() -> Network:
    """A round spot of red against cyan, a round spot for green, and an upright gray Gabor."""
    kernels = torch.stack([spot((1.0, -0.5, -0.5)), spot((0.0, 1.0, 0.0)), gabor(90.0, side=7, frequency=0.2, sigma=2)])
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 7, bias=False))  # no padding: all fields lie on the picture
    module[0].weight.data.copy_(kernels)
    return Network(module, size=20, mean=(0, 0, 0), std=(1, 1, 1), name="natural")


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("natural")
    (folder / "pictures").mkdir()
    made = survey(network(), write_many(folder / "pictures", 40), to=folder / "record", sites=["0"], top=40)
    tuning_session.tuning(network(), made, patches=40)
    return made


def test_each_index_finds_what_it_is_for(record: Record) -> None:
    table = record.measures("natural").set_index("channel")
    color, orientation, symmetry = (table[f"natural_{name}"] for name in ("color", "orientation", "symmetry"))
    assert color[0] == pytest.approx(1, abs=1e-3)
    assert color[1] < 0.7
    assert orientation[2] > 0.3 > 0.05 > abs(orientation[1])
    assert symmetry[1] == pytest.approx(1, abs=0.05)
    assert (table["natural_color_low"] <= color).all()
    assert (color <= table["natural_color_high"]).all()
    assert table["natural_patches"].between(4, 40).all()


def test_changes_are_what_they_say() -> None:
    photo = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(0))
    box = Box(4, 5, 11, 12)
    patch = photo[:, 4:11, 5:12]
    found = dict(zip(CHANGES, make_variants(photo, box), strict=True))
    assert torch.equal(found["none"], patch)
    assert torch.allclose(found["rotated:90"], torch.rot90(patch, 1, (1, 2)), atol=1e-5)
    assert torch.allclose(found["rotated:180"], patch.flip(1, 2), atol=1e-5)
    assert torch.allclose(found["mirrored:0"], patch.flip(1), atol=1e-5)
    assert torch.allclose(found["mirrored:90"], patch.flip(2), atol=1e-5)
    assert torch.allclose(found["mirrored:135"], patch.transpose(1, 2), atol=1e-5)
    light = np.tensordot(XYZ_OF_LINEAR[1], decode_srgb(patch.numpy()), (0, 0))
    assert np.tensordot(XYZ_OF_LINEAR[1], decode_srgb(found["gray"].numpy()), (0, 0)) == pytest.approx(light, abs=1e-5)
    assert torch.equal(found["gray"][0], found["gray"][2])


def test_corners_of_a_turned_patch_are_of_the_photograph() -> None:
    photo = torch.arange(400.0).reshape(1, 20, 20).expand(3, 20, 20) / 400
    turned = make_variants(photo, Box(6, 6, 13, 13))[CHANGES.index("rotated:45")]
    above = (20 * (9 - 3 * math.sqrt(2)) + 9) / 400  # what stands straight above comes to the upper left corner
    assert float(turned[0, 0, 0]) == pytest.approx(above, abs=1e-4)


def test_the_index_is_the_loss_of_the_summed_answer() -> None:
    answers = np.array([[2.0, 1.0, -1.0]] * 5)
    assert index_of(answers, 0, [1], loss=True)[0] == pytest.approx(0.5)
    assert index_of(answers, 0, [1, 2], loss=True) == pytest.approx((0.75, 0.75, 0.75))
    assert index_of(answers, 0, [1], loss=False)[0] == pytest.approx(0.5)
    assert np.isnan(index_of(answers[:3], 0, [1], loss=True)).all()


def test_the_interval_of_an_index_is_over_photographs() -> None:
    """Patches of two photographs tell nothing of a third; a unit that is silent has neither index nor interval."""
    answers = np.stack([np.full(12, 2.0), 1 + np.arange(12) / 12], axis=1)
    every = index_of(answers, 0, [1], loss=True)
    assert every[1] < every[0] < every[2]
    two = index_of(answers, 0, [1], loss=True, photographs=np.arange(12) % 2)
    assert two[0] == pytest.approx(every[0])
    assert np.isnan(two[1:]).all()
    assert np.isnan(index_of(np.zeros((12, 2)), 0, [1], loss=True)).all()


def test_photographs_that_are_gone_are_a_story(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    made = survey(network(), write_many(tmp_path / "pictures", 4), to=tmp_path / "record", sites=["0"])
    (tmp_path / "pictures").rename(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="are no longer where they were"):
        tuning_session.tuning(network(), made, patches=2)
