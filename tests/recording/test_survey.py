"""The survey against brute force, and what becomes of it when things go wrong."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from tests.oracles.everything import all_responses, mean_of_patches, ordered_extremes
from unitscope.anatomy.sites import sites as sites_of
from unitscope.errors import BadInput, Failure
from unitscope.networks import Network, load
from unitscope.record import Record, open_record
from unitscope.recording.batches import Batch, convert_to_gray
from unitscope.recording.merging import merge
from unitscope.recording.survey import survey
from unitscope.stimuli.images import open_images
from unitscope.stimuli.presentation import Presentation

SITES = ["bn1", "maxpool", "layer1.0.conv1", "layer2.0.bn2", "layer4.1.conv2"]
COUNT = 300
"""More than a block, and not a multiple of anything."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth random pictures of two labels, one of them twice, one truncated, one that is text."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        label = folder / f"label{number % 2}"
        label.mkdir(exist_ok=True)
        coarse = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((84, 76), Image.Resampling.BICUBIC).save(label / f"{number:03d}.png")
    files = sorted(folder.rglob("*.png"))
    files[40].write_bytes(files[41].read_bytes())
    files[100].write_bytes(files[100].read_bytes()[:600])
    files[200].write_text("not a picture")
    return folder


@pytest.fixture(scope="module")
def network() -> Network:
    network = load("resnet18", width=4, classes=2, size=64, seed=1)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for module in network.module.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.bias.normal_(0, 0.3, generator=generator)
        network.module.bn1.bias[2] = -100.0  # a dead unit
    return network


@pytest.fixture(scope="module")
def record(network, folder, tmp_path_factory) -> Record:
    return survey(network, folder, to=tmp_path_factory.mktemp("records") / "r18", sites=SITES, top=5)


@pytest.fixture(scope="module")
def truth(network, folder) -> dict[str, object]:
    """All responses to all pictures, and the pictures."""
    images, presentation = open_images(folder), Presentation(network.size)
    pictures, readable = [], []
    for i in range(len(images)):
        try:
            pictures.append(presentation.present(images.bytes(i)).transpose(2, 0, 1))
            readable.append(True)
        except BadInput:
            pictures.append(np.zeros((3, 64, 64), np.uint8))
            readable.append(False)
    pictures = np.stack(pictures)
    prepared = network.prepare(torch.from_numpy(pictures).float() / 255)
    responses = all_responses(network.module, SITES, prepared, batch=32)
    return {"pictures": pictures, "readable": np.array(readable), "responses": responses}


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("pole", ["preferred", "antipreferred"])
def test_extremes_equal_those_of_brute_force(record, truth, site, pole):
    responses = truth["responses"][site].copy()
    responses[~truth["readable"]] = np.nan
    expected = ordered_extremes(responses, k=5, pole=pole)
    table = record.stimuli(pole=pole)
    table = table[table.site == site]
    for channel, entries in enumerate(expected):
        if pole == "preferred" and (responses[truth["readable"]] >= 0).all():
            entries = [entry for entry in entries if entry[0] > 0]
        rows = table[table.channel == channel].sort_values("rank")
        assert rows["rank"].tolist() == list(range(len(entries)))
        assert list(rows[["value", "image", "row", "col"]].itertuples(index=False, name=None)) == [
            (pytest.approx(value, abs=0, rel=0), *place) for value, *place in entries
        ]


@pytest.mark.parametrize("site", SITES)
def test_the_unit_table_equals_brute_force(record, truth, site):
    responses = truth["responses"][site][truth["readable"]].astype(np.float64)
    peaks = responses.max((2, 3))
    table = record.units()
    table = table[table.site == site]
    assert (table.images == truth["readable"].sum()).all()
    np.testing.assert_array_equal(table.peak_max, peaks.max(0))
    np.testing.assert_array_equal(table.trough_min, responses.min((0, 2, 3)))
    np.testing.assert_allclose(table.peak_mean, peaks.mean(0), rtol=1e-12)
    np.testing.assert_allclose(table.peak_sd, peaks.std(0, ddof=1), rtol=1e-9)
    np.testing.assert_allclose(table.mean_response, responses.mean((2, 3)).mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(table.positive_positions_share, (responses > 0).mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_array_equal(table.positive_images, (peaks > 0).sum(0))
    np.testing.assert_array_equal(table.inactive, (peaks <= 0).all(0))


@pytest.mark.parametrize("site", SITES)
def test_maps_labels_and_histograms_equal_brute_force(record, truth, site):
    readable = truth["readable"]
    responses = truth["responses"][site].astype(np.float64)
    facts = record.sites[site]
    units = slice(facts.first_unit, facts.first_unit + facts.channels)
    np.testing.assert_allclose(
        record.array(f"response_map/{site}")[...], responses[readable].mean(0), rtol=1e-4, atol=1e-5
    )
    labels = np.arange(COUNT) // 150
    for label in (0, 1):
        peaks = responses[readable & (labels == label)].max((2, 3))
        assert record.array("label_images")[label] == len(peaks)
        np.testing.assert_allclose(record.array("label_peak_mean")[units, label], peaks.mean(0), rtol=1e-5, atol=1e-7)
        rectified = peaks.clip(min=0).mean(0)
        np.testing.assert_allclose(record.array("label_rectified_mean")[units, label], rectified, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(record.array("label_positive_share")[units, label], (peaks > 0).mean(0), rtol=1e-6)
    edges = np.concatenate([[-np.inf], record.array("histogram_edges")[...], [np.inf]])
    for pole, values in enumerate((responses[readable].max((2, 3)), responses[readable].min((2, 3)))):
        expected = np.stack([np.histogram(values[:, unit], edges)[0] for unit in range(facts.channels)])
        np.testing.assert_array_equal(record.array("histogram")[units, pole], expected)


@pytest.fixture(scope="module")
def further(network, folder, tmp_path_factory) -> Record:
    """A record with all that is kept on request."""
    to, means = tmp_path_factory.mktemp("records") / "further", ["best", "all", "full", "halves"]
    return survey(network, folder, to=to, sites=SITES[:4], top=5, means=means, responses=True)


@pytest.mark.parametrize("site", SITES[:4])
def test_kept_responses_equal_brute_force(further, truth, site):
    facts, responses = further.sites[site], truth["responses"][site]
    units = slice(facts.first_unit, facts.first_unit + facts.channels)
    for kind, of_map in (("peak", np.max), ("trough", np.min), ("mean", np.mean)):
        expected = of_map(responses.astype(np.float64), axis=(2, 3))
        expected[~truth["readable"]] = np.nan
        kept = further.array(f"responses/{kind}")
        np.testing.assert_allclose(kept[units], expected.T, rtol=1e-4 if kind == "mean" else 0, atol=1e-6)
    assert "responses" not in further.to_xarray()


def test_kept_responses_do_not_depend_on_shards(network, folder, tmp_path):
    for name, shard in (("whole", None), ("1", "1/2"), ("2", "2/2")):
        survey(network, folder, to=tmp_path / name, sites=SITES[:2], top=5, responses=True, shard=shard)
    merged = merge([tmp_path / "1", tmp_path / "2"], to=tmp_path / "merged")
    assert contents(merged.path) == contents(tmp_path / "whole")
    assert merged.facts["settings"]["responses"] is True


@pytest.mark.parametrize("site", SITES[:3])
@pytest.mark.parametrize("where", ["best", "all"])
def test_means_over_positions_equal_the_mean_of_the_patches(further, truth, network, site, where):
    facts, anatomy = further.sites[site], sites_of(network)[site]
    responses = truth["responses"][site][truth["readable"]]
    pictures = truth["pictures"][truth["readable"]]
    for channel in (0, 3):
        total, n, patches = 0.0, 0, 0
        for picture, response in zip(pictures, responses[:, channel], strict=True):
            places = np.argwhere(response > 0)
            if where == "best":
                places = [np.unravel_index(response.argmax(), response.shape)] if response.max() > 0 else []
            for row, col in places:
                box = anatomy.box(int(row), int(col), channel)
                pad = 70
                padded = np.pad(picture.astype(np.int64), ((0, 0), (pad, pad), (pad, pad)), constant_values=-1)
                patch = padded[:, box.top + pad : box.bottom + pad, box.left + pad : box.right + pad]
                total, n, patches = total + np.where(patch < 0, 0, patch), n + (patch[0] >= 0), patches + 1
        unit = facts.first_unit + channel
        assert further.array(f"mean_stimulus_{where}_n")[unit] == patches
        height, width = further.array(f"mean_stimulus_{where}_size")[unit]
        expected = total / np.where(n > 0, n, np.nan) / 255
        np.testing.assert_allclose(
            further.array(f"mean_stimulus_{where}")[unit, :, :height, :width], expected, rtol=1e-6
        )


def test_full_size_means_and_their_reliability(further, truth, network):
    for site in SITES[:4]:
        facts, anatomy = further.sites[site], sites_of(network)[site]
        row, col = anatomy.center
        positive = (truth["responses"][site][:, :, row, col] > 0) & truth["readable"][:, None]
        unit = int(positive.sum(0).argmax())
        seen = anatomy.box(row, col).clip((64, 64))
        mean = further.array(f"mean_stimulus_full/{site}")[unit]
        shown = truth["pictures"][positive[:, unit]] / 255
        inside = (slice(None), slice(seen.top, seen.bottom), slice(seen.left, seen.right))
        np.testing.assert_allclose(mean[inside], shown.mean(0)[inside], rtol=1e-5)
        assert np.isfinite(mean).sum() == mean[inside].size
        if max(anatomy.field().size) <= 64:
            even = np.arange(COUNT) % 2 == 0
            means = [
                truth["pictures"][positive[:, unit] & half].mean(0)[inside].ravel()
                - truth["pictures"][truth["readable"] & half].mean(0)[inside].ravel()
                for half in (even, ~even)
            ]
            r = np.corrcoef(*means)[0, 1]
            found = further.array("mean_stimulus_center_reliability")[facts.first_unit + unit]
            assert found == pytest.approx(2 * r / (1 + abs(r)), rel=1e-4)


def test_a_mean_that_does_not_exist_is_refused(network, folder, tmp_path):
    with pytest.raises(BadInput, match=r"no mean 'beste'\. Close: 'best'"):
        survey(network, folder, to=tmp_path / "r", sites=["bn1"], means=["beste"])


def test_an_engine_that_does_not_exist_is_refused(network, folder, tmp_path):
    with pytest.raises(BadInput, match="no engine 'rya'"):
        survey(network, folder, to=tmp_path / "r", sites=SITES, engine="rya")
    assert not (tmp_path / "r").exists()


def test_in_16_bits_responses_are_almost_the_same(network, folder, record, tmp_path):
    short = survey(network, folder, to=tmp_path / "r", sites=SITES, top=5, precision="bfloat16")
    here, there = short.units(), record.units()
    assert (here.images == there.images).all()
    assert (here.peak_max != there.peak_max).mean() > 0.5
    scale = there.groupby("site").peak_max.transform(lambda peaks: peaks.abs().max())
    assert ((here.peak_max - there.peak_max).abs() < 0.05 * scale).all()
    assert short.facts["settings"]["precision"] == "bfloat16"
    with pytest.raises(Failure, match="made with other settings"):
        survey(network, folder, to=tmp_path / "r", sites=SITES, top=5)
    with pytest.raises(BadInput, match=r"no precision 'half'\. There are float32, bfloat16"):
        survey(network, folder, to=tmp_path / "s", sites=SITES, precision="half")


def test_the_dead_unit_is_found(record):
    units = record.units()
    assert units[(units.site == "maxpool") & (units.channel == 2)].inactive.all()
    assert record.stimuli("maxpool:2", pole="preferred").empty


def test_boxes_are_those_of_the_anatomy(record, network):
    sites = sites_of(network)
    for row in record.stimuli().sample(200, random_state=0).itertuples():
        assert (row.top, row.left, row.bottom, row.right) == tuple(sites[row.site].box(row.row, row.col, row.channel))


@pytest.mark.parametrize("site", SITES)
def test_mean_preferred_stimuli_equal_the_mean_of_the_patches(record, truth, network, site):
    facts, anatomy = record.sites[site], sites_of(network)[site]
    row, col = anatomy.center
    positive = (truth["responses"][site][:, :, row, col] > 0) & truth["readable"][:, None]
    means = record.array("mean_stimulus_center")[facts.first_unit : facts.first_unit + facts.channels]
    counts = record.array("mean_stimulus_center_n")[facts.first_unit : facts.first_unit + facts.channels]
    np.testing.assert_array_equal(counts, positive.sum(0))
    box = anatomy.box(row, col)
    if max(box.height, box.width) <= 64:
        for unit in (0, 2, facts.channels - 1):
            expected = mean_of_patches(truth["pictures"], positive[:, unit], box)
            np.testing.assert_allclose(means[unit, :, : box.height, : box.width], expected, rtol=1e-6, atol=1e-9)
    else:
        used = record.array("mean_stimulus_center_size")[facts.first_unit]
        assert used.max() == 32
        unit = int(counts.argmax())
        seen = box.clip((64, 64))
        part = truth["pictures"][positive[:, unit], :, seen.top : seen.bottom, seen.left : seen.right].mean(0) / 255
        shrunk = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(part), tuple(used)).numpy()
        np.testing.assert_allclose(means[unit, :, : used[0], : used[1]], shrunk, atol=0.5 / 255)


def test_unreadable_images_are_noted_and_skipped(record):
    images = record.images()
    assert len(images) == COUNT
    bad = images[images.status == "unreadable"]
    assert len(bad) == 2
    assert bad.error.str.len().min() > 5
    assert set(images.status) == {"ok", "unreadable"}
    assert images[images.status == "ok"].error.isna().all()
    assert images.label.tolist() == [f"label{i // 150}" for i in range(COUNT)]
    assert not set(record.stimuli().image) & set(bad.image)
    assert record.facts["stimuli"]["unreadable"] == 2


def test_the_record_is_the_same_whatever_the_number_of_workers(record, network, folder, tmp_path):
    other = survey(network, folder, to=tmp_path / "other", sites=SITES, top=5, workers=4)
    assert contents(other.path) == contents(record.path)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_shards_merge_into_the_same_bytes_in_any_order(record, network, folder, tmp_path, order):
    for part in (1, 2):
        shard = survey(network, folder, to=tmp_path / f"{part}", sites=SITES, top=5, shard=f"{part}/2")
        assert not shard.facts["complete"]
        with pytest.raises(BadInput, match=f"is shard {part}/2 of a survey"):
            open_record(tmp_path / f"{part}")
    merged = merge([tmp_path / f"{part}" for part in order], to=tmp_path / "merged")
    assert contents(merged.path) == contents(record.path)
    without = ("created", "versions")
    assert {k: v for k, v in merged.facts.items() if k not in without} == {
        k: v for k, v in record.facts.items() if k not in without
    }


def test_shards_that_do_not_make_a_whole_are_refused(record, network, folder, tmp_path):
    survey(network, folder, to=tmp_path / "1", sites=SITES[:1], top=5, shard="1/2")
    with pytest.raises(BadInput, match="needs each of them once; 2/2 missing"):
        merge([tmp_path / "1"], to=tmp_path / "merged")
    survey(network, folder, to=tmp_path / "2", sites=SITES[1:2], top=5, shard="2/2")
    with pytest.raises(Failure, match="other sites"):
        merge([tmp_path / "1", tmp_path / "2"], to=tmp_path / "merged")
    with pytest.raises(BadInput, match="is a whole record"):
        merge([record.path], to=tmp_path / "merged")
    with pytest.raises(BadInput, match="'3/2' is no shard; write it as PART/PARTS"):
        survey(network, folder, to=tmp_path / "3", shard="3/2")


def test_strict_stops_at_the_first_unreadable_image(network, folder, tmp_path):
    with pytest.raises(Failure, match="cannot be read"):
        survey(network, folder, to=tmp_path / "r", sites=SITES, strict=True)


KILLED = """
import os, signal, sys, torch
torch.set_num_threads(1)
from unitscope.networks import load
from unitscope.recording.batches import Batch, convert_to_gray
from unitscope.recording.survey import survey
def progress(done, total):
    if done >= int(sys.argv[3]) > 0:
        os.kill(os.getpid(), signal.SIGKILL)
survey(load("resnet18", width=4, classes=2, size=64, seed=1), sys.argv[1], to=sys.argv[2],
       sites=["bn1", "layer2.0.bn2"], put_aside_every=0, progress=progress)
"""


def test_a_survey_that_was_killed_resumes_to_the_same_bytes(folder, tmp_path):
    def run(to: str, die_at: int) -> int:
        command = [sys.executable, "-c", KILLED, str(folder), str(tmp_path / to), str(die_at)]
        return subprocess.run(command, capture_output=True, timeout=120).returncode

    assert run("undisturbed", 0) == 0
    assert run("killed", 64) == -signal.SIGKILL
    assert run("killed", 270) == -signal.SIGKILL
    assert (tmp_path / "killed" / "parts" / "session.safetensors").exists()
    with pytest.raises(BadInput, match="has not been completed"):
        open_record(tmp_path / "killed")
    assert run("killed", 0) == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    assert not (tmp_path / "killed" / "parts").exists()


def test_a_finished_record_is_given_back_and_not_made_again(record, network, folder):
    before = contents(record.path)
    told = []
    again = survey(network, folder, to=record.path, sites=SITES, top=5, progress=lambda *fact: told.append(fact))
    assert (again.facts, contents(record.path), told) == (record.facts, before, [])


def test_a_network_whose_pictures_are_no_squares(tmp_path):
    Image.new("RGB", (90, 70), (200, 30, 30)).save(tmp_path / "one.png")
    network = load("resnet18", width=4, classes=2, size=(48, 64), seed=0)
    for _ in range(2):  # the second time the record is there
        record = survey(network, tmp_path / "one.png", to=tmp_path / "r", sites=["maxpool"])
    assert record.sites["maxpool"].lattice == (12, 16)


def test_a_record_refuses_other_weights_images_and_settings(record, folder, network, tmp_path):
    with pytest.raises(Failure, match="other weights or preprocessing; it cannot be continued"):
        survey(load("resnet18", width=4, classes=2, size=64, seed=2), folder, to=record.path, sites=SITES, top=5)
    with pytest.raises(Failure, match="other settings"):
        survey(network, folder, to=record.path, sites=SITES, top=6)
    with pytest.raises(Failure, match="other sites"):
        survey(network, folder, to=record.path, sites=SITES[:2], top=5)
    Image.new("RGB", (70, 70)).save(tmp_path / "one.png")
    with pytest.raises(Failure, match="other images"):
        survey(network, tmp_path, to=record.path, sites=SITES, top=5)


def test_two_surveys_on_one_record_are_refused(network, folder, tmp_path):
    def second(_done: int, _total: int) -> None:
        survey(network, folder, to=tmp_path / "r", sites=["bn1"])

    with pytest.raises(Failure, match="another survey is writing"):
        survey(network, folder, to=tmp_path / "r", sites=["bn1"], progress=second)


def test_a_place_that_cannot_be_written_is_found_out_before_the_pass(network, folder, tmp_path):
    (tmp_path / "file").write_text("")
    told = []
    with pytest.raises(Failure, match="cannot be written"):
        survey(network, folder, to=tmp_path / "file", sites=["bn1"], progress=lambda *fact: told.append(fact))
    assert told == []


def test_an_unknown_site_tells_what_is_near(network, folder, tmp_path):
    with pytest.raises(BadInput, match=r"no site 'maxpol'\. Close: 'maxpool'"):
        survey(network, folder, to=tmp_path / "r", sites=["maxpol"])


def test_by_default_every_preactivation_and_maxpooling_is_surveyed(network, tmp_path):
    Image.new("RGB", (70, 70), (200, 30, 30)).save(tmp_path / "one.png")
    record = survey(network, tmp_path / "one.png", to=tmp_path / "r")
    assert list(record.sites)[:4] == ["bn1", "maxpool", "layer1.0.bn1", "layer1.0.add"]
    assert len(record.sites) == 18
    assert record.units().images.tolist() == [1] * len(record.units())
    assert record.units().peak_sd.isna().all()


def test_the_network_is_left_as_it_was(network, folder, tmp_path):
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    survey(network, folder, to=tmp_path / "r", sites=["maxpool"])
    after = network.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.module.modules())


def test_a_record_opens_without_torch_weights_or_images(record):
    code = (
        "import sys, unitscope; record = unitscope.open(sys.argv[1]);"
        "print(len(record.units()), record, record.to_xarray().sizes['unit']);"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(record.path)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": "src"},
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(record.units())} record of resnet18" in done.stdout


def contents(path: Path) -> dict[str, str]:
    """A hash of every file of a record that holds results; record.json holds a date."""
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name != "record.json"]
    assert isinstance(pandas.read_parquet(path / "units.parquet"), pandas.DataFrame)
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_gray_is_what_pillow_makes_of_a_picture() -> None:
    pictures = torch.randint(0, 256, (2, 3, 5, 7), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    gray = convert_to_gray(Batch(torch.arange(2), pictures, torch.ones(2, dtype=torch.bool), ())).pictures
    for one, expected in zip(gray, pictures, strict=True):
        image = Image.fromarray(expected.permute(1, 2, 0).numpy()).convert("L")
        assert np.array_equal(one[0].numpy(), np.asarray(image))
