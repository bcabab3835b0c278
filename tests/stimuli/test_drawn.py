"""Parametric stimuli as images: named by their parameters, drawn again from the name."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.test_tuning_session import little
from unitscope import tuning_session
from unitscope.errors import BadInput
from unitscope.record import open_record
from unitscope.recording.patches import patches
from unitscope.recording.survey import survey
from unitscope.stimuli.batteries import full_pictures
from unitscope.stimuli.drawn import drawn_images, parameters, parameters_of
from unitscope.stimuli.gratings import draw_stimulus, make_product
from unitscope.stimuli.images import reopen
from unitscope.stimuli.items import Unreadable


def test_an_image_is_its_stimulus_to_eight_bits() -> None:
    stimuli = make_product(
        "g", direction=["pixel", "l-m"], contrast=0.1, orientation=[0, 33.5], frequency=0.17, phase=45.0
    )
    images = drawn_images(stimuli, (9, 12))
    exact = draw_stimulus(stimuli, (9, 12), center=(4, 5.5)).permute(0, 2, 3, 1).numpy()
    for number in range(len(images)):
        shown = np.asarray(Image.open(io.BytesIO(images.bytes(number))), np.float64) / 255
        assert shown == pytest.approx(exact[number], abs=0.5 / 255 + 1e-6)
        assert len(images.bytes(number)) == images.sizes[number]
    assert images.labels == ("l-m", "pixel")


def test_names_hold_the_parameters() -> None:
    stimuli = full_pictures((32, 32)) + make_product("disc", pattern="uniform", diameter=7.0, surround=-1.0)
    with np.printoptions(legacy="1.13"):  # as some libraries leave it
        images = drawn_images(stimuli, (32, 32))
    assert len({item.uri for item in images}) == len(images)
    for item, given in zip(images, parameters(stimuli), strict=True):
        assert parameters_of(item.uri) == (given, (32, 32))


def test_what_is_no_such_name_is_unreadable() -> None:
    images = reopen("drawn", [*drawn_images(full_pictures((8, 8)), (8, 8)).items[:1]])
    assert images.bytes(0)[:2] == b"P6"
    for uri in ("drawn:8x8?angle=3", "builtin:coffee/1"):
        with pytest.raises(BadInput):
            parameters_of(uri)
    broken = type(images.items[0])("drawn:8x8?angle=3")
    with pytest.raises(Unreadable, match="names no drawn stimulus"):
        reopen("drawn", [broken]).bytes(0)


def test_a_session_of_gratings_is_a_survey_like_another(tmp_path: Path) -> None:
    network = little([0.0, 90.0])
    stimuli = make_product("g", orientation=[0.0, 45.0, 90.0, 135.0], frequency=0.2, phase=[0.0, 90.0, 180.0, 270.0])
    record = survey(
        network, drawn_images(stimuli, network.size), to=tmp_path / "r", sites=["relu"], resize=network.size
    )
    best = record.stimuli(pole="preferred").query("rank == 0").merge(record.images(), on="image")
    assert [parameters_of(uri)[0].get("orientation", 0.0) for uri in best.sort_values("unit")["uri"]] == [0.0, 90.0]
    assert np.asarray(patches(record, "relu:0", count=1)[0]).std() > 20  # cut from the picture, drawn again


def test_without_a_record_tuning_makes_one(tmp_path: Path) -> None:
    found = tuning_session.tuning(little([20.0]), tmp_path / "new", sites=["relu"])
    assert found["orientation"]["preferred_orientation"].tolist() == pytest.approx([20.0], abs=0.5)
    assert len(open_record(tmp_path / "new").images()) == len(full_pictures((16, 16)))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("not a record")
    with pytest.raises(BadInput, match="record"):
        tuning_session.tuning(little([20.0]), tmp_path / "notes")
