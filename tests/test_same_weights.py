"""The same weights in another architecture are another network, at every door that takes up what is there."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import unitscope
from unitscope.errors import BadInput, Failure
from unitscope.optima import read_optima


def two(dilation=1, act=None):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=dilation, dilation=dilation), act or nn.ReLU(), nn.Conv2d(4, 4, 3), nn.MaxPool2d(2)
    )
    return unitscope.Network(module.eval(), size=32, mean=[0.5] * 3, std=[0.25] * 3)


@pytest.fixture
def folder(tmp_path):
    chance = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(6):
        coarse = chance.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((32, 32)).save(tmp_path / "images" / f"{number}.png")
    return tmp_path


def survey(network, folder):
    return unitscope.survey(network, folder / "images", to=folder / "record", resize=32, workers=0, batch=4)


def test_no_record_is_taken_up_by_the_same_weights_in_another_architecture(folder):
    record = survey(two(), folder)
    assert len(record.facts["network"]["computation"].rpartition("/")[2]) == 64
    survey(two(), folder)
    for other in (two(dilation=3), two(act=nn.LeakyReLU(0.5))):
        with pytest.raises(Failure, match=r"made with other operations or constants \(with the same weights\)"):
            survey(other, folder)
        with pytest.raises(Failure, match="with other operations or constants"):
            unitscope.maximize(other, "2:1", to=record)
        with pytest.raises(Failure, match="with other operations or constants"):
            unitscope.perturb(other, folder / "images", units="2:1", record=record)
        with pytest.raises(Failure, match="with other operations or constants"):
            unitscope.tuning(other, record=record)
        with pytest.raises(BadInput, match=r"operations or constants .* differ"):
            unitscope.filters(other, record=record)


def test_a_record_without_the_entry_opens_and_says_what_is_not_compared(folder, caplog):
    record = survey(two(), folder)
    facts = dict(record.facts)
    facts["network"] = {key: value for key, value in facts["network"].items() if key != "computation"}
    (folder / "record" / "record.json").write_text(json.dumps(facts))
    old = unitscope.open(folder / "record")
    unitscope.measure(old)
    assert not caplog.records
    survey(two(), folder)
    assert "only weights and preprocessing were compared" in caplog.text


def test_a_module_edited_between_two_calls_has_a_circuit_of_its_own(tmp_path):
    network = two(act=nn.LeakyReLU(0.1))
    first = unitscope.maximize(network, "2:1", to=tmp_path, name="one")
    network.module[1].negative_slope = -0.5
    second = unitscope.maximize(network, "2:1")
    fresh = unitscope.maximize(two(act=nn.LeakyReLU(-0.5)), "2:1")
    assert not np.array_equal(second.pictures, first.pictures)
    assert np.array_equal(second.pictures, fresh.pictures)
    with pytest.raises(Failure, match=r"made otherwise .*operations or constants"):
        unitscope.maximize(network, "2:1", to=tmp_path, name="one")
    assert len(read_optima(tmp_path / "optima" / "one")) == 1
