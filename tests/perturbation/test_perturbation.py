"""Noise and silence in units whose nature we know (methods 10, checks 30 to 33)."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import torch
from torch import Tensor, nn

from tests import wiring
from unitscope.anatomy.sites import sites
from unitscope.errors import BadInput, Failure
from unitscope.networks import Network
from unitscope.perturbation.conditions import Condition, make_alteration, rectified_noise
from unitscope.perturbation.experiment import Experiment, labeled_images, perturb, seed_of
from unitscope.perturbation.units import behind_rectification, parse_units
from unitscope.recording.reading import read
from unitscope.recording.survey import survey
from unitscope.stimuli.images import open_images
from unitscope.stimuli.presentation import Presentation


class Block(nn.Module):
    """Two dead channels (of six) at `pool`, read by a branch `conv` and, with `skip`, by an addition; a linear
    readout of what comes out, without a ReLU in between. With `deaf`, the branch does not read the dead channels.
    """

    def __init__(self, *, skip: bool, deaf: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6, 3)
        self.skip = skip
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
            self.stem.bias[:2] = -100
            if deaf:
                self.conv.weight[:, :2] = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.stem(x)))
        out = self.conv(x)
        if self.skip:
            out = out + x
        return self.fc(out.mean((2, 3)))


def block(*, skip: bool = True, deaf: bool = False) -> Network:
    return Network(Block(skip=skip, deaf=deaf), size=16, mean=(0,) * 3, std=(1,) * 3, classes=("a", "b", "c"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    generator = torch.Generator().manual_seed(4)
    pictures = {name: list(torch.rand(20, 3, 16, 16, generator=generator)) for name in "abc"}
    return wiring.write_folder(tmp_path_factory.mktemp("images"), pictures)


def test_zero_ablation_of_dead_units_changes_no_bit(folder):
    table = perturb(block(), folder, units=["pool:0-1"], what="zero", resize=16)
    row = table.iloc[0]
    assert row.delta_loss == row.se == row.ci_low == row.ci_high == row.delta_top1 == row.flips == row.kl == 0
    assert (row.images, row.seeds, row.units, row.units_answering) == (60, 1, 2, 0)
    alive = perturb(block(), folder, units=["pool:2-3"], what="zero", resize=16).iloc[0]
    assert alive.delta_loss != 0
    assert alive.units_answering == 2


def test_noise_that_nobody_reads_changes_nothing(folder):
    table = perturb(block(skip=False, deaf=True), folder, units=["pool:0-1"], seeds=3, resize=16)
    assert table.delta_loss.tolist() == [0.0]


def test_noise_into_the_skip_of_a_deaf_branch_is_the_closed_form(folder):
    """The logits move by W times the noise's mean over positions, whatever the picture."""
    network = block(deaf=True)
    table = perturb(
        network, folder, units=["pool:0-1"], path=["both", "skip", "branch"], seeds=1, resize=16, batch=60, seed=9
    )
    both, skip, branch = table.delta_loss
    assert both == pytest.approx(skip, abs=1e-7)
    assert branch == 0
    images = labeled_images(open_images(folder), count=None, seed=9)
    pixels = np.stack([Presentation((16, 16), 16).present(images.bytes(i)) for i in range(60)])
    pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    labels = torch.tensor(["abc".index(item.label) for item in images.items])
    generator = torch.Generator().manual_seed(seed_of(9, 0, 0))
    noise = rectified_noise((60, 2, 8, 8), generator=generator).double()
    fc = network.module.fc.weight.double()
    with torch.no_grad():
        logits = read(network, pictures, "fc")["fc"][:, :, 0, 0].double()
        moved = logits + noise.mean((2, 3)) @ fc[:, :2].T
    loss = nn.functional.cross_entropy
    assert both == pytest.approx(float(loss(moved, labels) - loss(logits, labels)), abs=1e-6)


def test_the_noise_has_the_moments_of_a_rectified_normal():
    noise = rectified_noise((200, 10_000), generator=torch.Generator().manual_seed(1)).double()
    assert noise.mean().item() == pytest.approx(0.39894, abs=1e-3)
    assert noise.var().item() == pytest.approx(0.34085, abs=1e-3)
    assert noise.min() == 0


def test_one_per_batch_has_the_expectation_of_the_single_channels(folder):
    table = perturb(
        block(), folder, units=["pool:2-5"], which=["one per batch", "each channel"], seeds=40, batch=10, resize=16
    )
    random, single = table.iloc[0], table.iloc[1:]
    assert single.which.tolist() == [f"channel {c}" for c in (2, 3, 4, 5)]
    se_of_draws = random.seed_sd / np.sqrt(random.seeds)
    assert abs(random.delta_loss - single.delta_loss.mean()) < 3 * se_of_draws
    assert single.delta_loss.max() - single.delta_loss.min() > 6 * se_of_draws  # so the draw could be seen


def test_one_per_batch_is_drawn_anew_for_each_batch_and_seed():
    experiment = SimpleNamespace(chosen=SimpleNamespace(channels=(2, 3, 4, 5), active=()), seed=0)
    drawn = [
        [Experiment.channels_of(experiment, Condition(which="one per batch"), number, batch) for batch in range(20)]
        for number in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert {channel for (channel,) in drawn[0]} == {2, 3, 4, 5}


def test_a_loss_in_float32_is_rounded_to_units_of_two_to_the_minus_23():
    """Check 33: means in [1, 2) differ by whole units of 2^-23, as kobayashi2020's entries for the plain network do."""
    generator = torch.Generator().manual_seed(0)
    losses = 1 + torch.rand(1000, generator=generator).double()
    moved = losses + 1e-9 * torch.randn(1000, generator=generator).double()
    assert abs((moved - losses).mean().item()) < 1e-9
    units = [(losses[i::7].float().mean() - moved[i::7].float().flip(0).mean()).item() / 2**-23 for i in range(7)]
    assert all(unit == round(unit) for unit in units)
    assert any(units)
    assert pytest.approx(-14, abs=1e-4) == -1.66893e-6 / 2**-23
    assert pytest.approx(-7, abs=1e-4) == -8.34465e-7 / 2**-23


def test_what_is_done_to_the_responses():
    responses = torch.arange(24.0).reshape(3, 2, 2, 2)
    deeds = {}
    for what in ("zero", "mean", "resample", "noise"):
        deeds[what] = responses.clone()
        means = torch.tensor([5.0, 7.0])
        make_alteration(Condition(what), [1], generator=torch.Generator().manual_seed(0), means=means)(deeds[what])
        assert torch.equal(deeds[what][:, 0], responses[:, 0])
    assert (deeds["zero"][:, 1] == 0).all()
    assert (deeds["mean"][:, 1] == 7).all()
    owners = [next(i for i in range(3) if torch.equal(given, responses[i, 1])) for given in deeds["resample"][:, 1]]
    assert sorted(owners) == [0, 1, 2]
    assert all(owner != i for i, owner in enumerate(owners))
    assert (deeds["noise"][:, 1] >= responses[:, 1]).all()


def spread_of_active(folder) -> float:
    """The dose that matches the median standard deviation of units 2 to 5 over the 30 images that are drawn."""
    images = labeled_images(open_images(folder), count=30, seed=0)
    pixels = np.stack([Presentation((16, 16), 16).present(images.bytes(i)) for i in range(30)])
    responses = read(block(), torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, "pool")["pool"]
    deviation = np.median(responses[:, 2:].double().transpose(0, 1).flatten(1).std(1, correction=0))
    return float(f"{deviation / 0.34085**0.5:.3g}")


def test_the_protocol_and_what_is_kept(folder, tmp_path):
    table = perturb(
        block(), folder, units=["pool:0-1"], conditions="protocol", seeds=2, resize=16, to=tmp_path, count=30
    )
    kept = pandas.read_parquet(tmp_path / "perturbation.parquet")
    pandas.testing.assert_series_equal(kept.delta_loss, table.delta_loss)
    contract = {"site", "units", "what", "which", "path", "dose", "images", "seeds", "delta_loss", "se"}
    assert contract | {"ci_low", "ci_high", "delta_top1"} <= set(kept.columns)
    chosen = kept[kept.target == "chosen"]
    assert set(chosen.what) == {"noise", "zero", "mean", "resample"}
    assert set(chosen.path) == {"both", "branch", "skip"}
    assert set(chosen.which) == {"all", "one per batch", "channel 0", "channel 1"}
    assert sorted(set(chosen.dose) - {0.0, 0.1, 0.25, 0.5, 1.0, 2.0}) == [spread_of_active(folder)]
    assert (kept[kept.dose == 0].delta_loss == 0).all()
    assert (chosen[chosen.what.isin(["zero", "mean", "resample"])].delta_loss == 0).all()
    assert (kept[kept.target == "active"].query("what == 'zero'").delta_loss != 0).all()
    classes = pandas.read_parquet(tmp_path / "perturbation_classes.parquet")
    assert len(classes) == 3 * len(kept)
    first = classes.iloc[:3]
    assert np.average(first.delta_loss, weights=first.images) == pytest.approx(kept.delta_loss[0])


def test_neither_the_batch_at_once_nor_the_path_through_the_network_matters(folder, monkeypatch):
    options = {"units": ["pool:0-1"], "what": "zero", "target": "active", "seeds": 3, "resize": 16, "batch": 60}
    played = perturb(block(), folder, **options)
    monkeypatch.setattr("unitscope.perturbation.experiment.gives_same_bits", lambda replay, network: False)
    full = perturb(block(), folder, **options)
    assert full.delta_loss.tolist() == played.delta_loss.tolist()
    monkeypatch.setattr("unitscope.perturbation.experiment.AT_ONCE", 7)
    assert perturb(block(), folder, **options).delta_loss[0] == pytest.approx(played.delta_loss[0], abs=1e-6)


def test_inactive_units_come_from_the_record(folder, tmp_path):
    network = block()
    record = survey(network, folder, to=tmp_path / "record", sites=["stem", "pool"], resize=16)
    row = perturb(network, folder, record=record, what="zero", resize=16).iloc[0]
    assert (row.site, row.units, row.channels) == ("pool", 2, [0, 1])
    behind = perturb(network, folder, record=record, site="stem", what="zero", resize=16).iloc[0]
    assert (behind.site, behind.channels, behind.delta_loss) == ("relu", [0, 1], 0.0)
    assert (row.inactive_at, behind.inactive_at) == ("pool", "stem")
    with pytest.raises(Failure, match="with other weights or preprocessing than this"):
        perturb(block(deaf=True), folder, record=record)
    assert behind_rectification(network, "pool") == "pool"


def test_units_in_words():
    found = sites(block())
    assert parse_units(["pool:0", "pool:3-5", "pool:0-1"], found) == {"pool": [0, 3, 4, 5, 1]}
    assert parse_units(["pool:*"], found) == {"pool": [0, 1, 2, 3, 4, 5]}
    for text, story in {
        "pool": "'pool' names no units; write SITE:CHANNEL",
        "pol:1": "has no site 'pol'",
        "pool:6": "pool has 6 channels, 0 to 5",
        "pool:4-2": "pool has 6 channels",
    }.items():
        with pytest.raises(BadInput, match=story):
            parse_units([text], found)


@pytest.mark.parametrize(
    ("options", "story"),
    [
        ({}, "which units\\? Name them"),
        ({"units": ["pool:0", "relu:0"]}, "units of one site are disturbed at a time"),
        ({"units": ["pool:0"], "what": "silence"}, "'silence'.*There are noise, zero, mean, resample"),
        ({"units": ["pool:0"], "which": "some"}, "Which units: all, 'one per batch'"),
        ({"units": ["pool:0"], "which": "channel 3"}, "channel 3 is not among the chosen units"),
        ({"units": ["pool:0"], "dose": -1.0}, "a dose is a factor of the noise, 0 or more"),
        ({"units": ["relu:0"], "path": "skip"}, "relu has no skip"),
        ({"units": ["pool:*"], "target": "active"}, "pool has no other active units"),
        ({"units": ["pool:0"], "seeds": 0}, "seeds was 0"),
        ({"units": ["pool:0"], "count": 0}, "count was 0"),
        ({"units": ["pool:0"], "batch": 0}, "batch was 0"),
        ({"units": ["pool:0"], "conditions": "all"}, "expected 'protocol'"),
        ({"units": ["pool:0"], "conditions": []}, "no condition came"),
    ],
)
def test_bad_input_is_told_in_words(folder, options, story):
    with pytest.raises(BadInput, match=story):
        perturb(block(), folder, **options)


def test_images_without_labels_are_refused(tmp_path):
    wiring.write_folder(tmp_path, {".": [torch.rand(3, 16, 16)]})
    with pytest.raises(BadInput, match="none of the images has a label"):
        perturb(block(), tmp_path, units=["pool:0"])
