"""The dog study on hand-wired units, whose answer is known."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import skew

from tests.kennel import two_sided_network, write_kennel
from tests.wiring import COLORS, uniform, write_folder
from unitscope.analysis.label_extremes import LabelEnds, chance_of, label_ends, random_groups, two_sided
from unitscope.analysis.response_axis import quiet
from unitscope.analysis.selectivity import selectivity
from unitscope.cli.app import main
from unitscope.errors import BadInput
from unitscope.networks import load
from unitscope.record import open_record
from unitscope.reproductions.dog_counts import breeds_of
from unitscope.reproductions.dogs import control_category, group_labels, reproduce
from unitscope.reproductions.untrained import untrained_network
from unitscope.stimuli.images import open_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kennel(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def study(folder, tmp_path_factory) -> Path:
    told = []
    to = tmp_path_factory.mktemp("study")
    report, page = reproduce([two_sided_network()], folder, to=to, progress=lambda *fact: told.append(fact))
    assert report.paper == "dogs"
    assert page == to / "index.html"
    assert told[-1] == ("two-sided, untrained looks", 160, 160)
    return to


def test_the_study_finds_the_two_dog_units_and_the_one_with_dogs_at_both_ends(study):
    with (study / "two-sided.csv").open() as file:
        rows = list(csv.DictReader(file))
    of = {(row["network"], row["group"]): row for row in rows}
    dogs = of["two-sided", "dogs"]
    assert [dogs[key] for key in ("units", "prevalence", "selective", "above", "enriched", "depleted")] == [
        "5", "0.5", "2", "1", "0", "0",
    ]  # fmt: skip
    assert of["two-sided", "artifacts"]["selective"] == "2"
    assert sum(row["group"] == "random labels" for row in rows) == 400


def test_the_report_says_so_and_shows_its_figures(study):
    report = json.loads((study / "report.json").read_text())
    claims = {claim["what"]: claim for claim in report["claims"]}
    ends = claims["Such units have dogs at their negative end, too"]
    assert ends["found"].startswith("two-sided: of 2 selective units 1 (50 %) have more there than the prevalence;")
    assert ends["verdict"] == "two-sided: no more than random groups of classes have"
    assert "two-sided: 50 %, of groups of as many labels drawn at random" in claims["Is it chance?"]["found"]
    assert "50.0 % of them dogs (Chihuahua, Shih-Tzu, beagle, Mexican hairless)" in report["circumstances"]
    files = [figure["file"] for figure in report["figures"]]
    assert files == ["figure-2.png", "controls.png", "figure-1-0.png"]
    for file in files:
        assert (study / file).read_bytes().startswith(b"\x89PNG")
    assert "two-sided conv1:0: selectivity 1.00; dogs are 100 % of the highest and 100 % of the lowest" in str(report)


def test_breeds_fall_off_as_their_means_do() -> None:
    """Three units; the third is not selective. Labels: four breeds and one other, two images each."""
    means = np.array([[8.0, 4, 2, 0, 1], [1, 8, 2, 4, 3], [9, 9, 9, 9, 9]])
    counts = np.zeros((3, 5), dtype=int)
    ends = LabelEnds(tuple("abcde"), np.full(5, 2), means, counts, counts, np.ones(3, bool))
    inside = np.array([True, True, True, True, False])
    found = breeds_of(ends, inside, np.array([True, True, False]))
    np.testing.assert_allclose(found.curve, [1, 0.5, 0.25, 0.0625])
    assert found.below == pytest.approx((0.25 + 0.5) / 2)
    assert found.skewness == pytest.approx(np.median(skew(means[:2, :4], axis=1)))
    assert np.isnan(breeds_of(ends, inside, np.zeros(3, bool)).skewness)


def test_the_page_says_that_the_index_is_a_reconstruction_and_how_breeds_fall_off(study):
    report = json.loads((study / "report.json").read_text())
    assert "this one is a reconstruction" in report["circumstances"]
    breeds = next(claim for claim in report["claims"] if "half of a normal" in claim["what"])
    assert "two-sided: 1.00, " in breeds["found"]
    assert breeds["verdict"].startswith("two-sided: ")


def test_any_group_of_labels_has_the_numbers_that_the_measures_give(study):
    record = open_record(study / "records" / "two-sided")
    ends = label_ends(record)
    inside = group_labels("dogs", ends.labels)
    found, expected = two_sided(ends, inside, chance_of(ends, 4)), selectivity(record, "dogs")
    for name in ("selectivity", "preferred_share", "antipreferred_share", "preferred_p", "antipreferred_p"):
        np.testing.assert_allclose(getattr(found, name), expected[name], rtol=1e-9, err_msg=name)
    assert found.antipreferred_fewer_p[0] > 0.5


def test_random_groups_are_of_the_asked_size_and_repeat_with_their_generator(study):
    ends = label_ends(open_record(study / "records" / "two-sided"))
    one, two = (random_groups(ends, 3, 50, generator=np.random.default_rng(seed)) for seed in (0, 0))
    np.testing.assert_array_equal(one, two)
    assert (one.sum(1) == 3).all()
    assert len(np.unique(one, axis=0)) > 20


def test_the_control_is_a_group_without_dogs_of_about_as_many_labels():
    assert control_category(("n02085620", "n02086240", "n01440764", "n02979186", "n03000684")) == "artifacts"
    with pytest.raises(BadInput, match="all labels that are known of ImageNet are dogs"):
        control_category(("n02085620", "n02086240"))


def test_images_without_dogs_are_refused(tmp_path):
    pictures = {name: [uniform(color)[0]] for name, color in COLORS.items()}
    with pytest.raises(BadInput, match="needs images of ImageNet's classes, a sub-folder each, some of them dogs"):
        reproduce([two_sided_network()], write_folder(tmp_path / "p", pictures), to=tmp_path / "study")


def test_the_verb_repeats_the_study_and_says_where_it_is(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as done:
        main(["reproduce", "dogs", str(folder / "absent"), "--to", str(tmp_path), "--models", "resnet18"])
    assert done.value.code == 2
    with pytest.raises(SystemExit) as done:
        main(
            ["reproduce", "dogs", str(folder), "--to", str(tmp_path), "--models", "tests.kennel:module", "--size", "32"]
        )
    assert done.value.code == 0
    told = capsys.readouterr().out
    assert "we find: module: of 2 selective units 1 (50 %)" in " ".join(told.split())
    assert (tmp_path / "index.html").is_file()


def test_what_leaves_a_unit_at_zero(study):
    record = open_record(study / "records" / "two-sided")
    found = quiet(record, record.sites["conv1"], count=5)
    peak = np.abs(record.array("responses/peak")[:5])
    for unit in range(5):
        assert set(np.flatnonzero(peak[unit] <= np.sort(peak[unit])[4])) >= set(found.image[unit].tolist())
    assert (np.diff(np.abs(found.value), axis=1) >= 0).all()
    assert set(record.images()["label"].iloc[found.image[0]]) <= {"n01440764", "n02979186", "n03000684", "n03888257"}


def test_an_untrained_twin_has_other_weights_and_leaves_chance_and_network_alone(folder):
    network = load("resnet18", width=4, classes=2, size=32, seed=1)
    images, before, chance = open_images(folder), network.fingerprint, torch.get_rng_state()
    twins = [untrained_network(network, images, seed=seed) for seed in (0, 0, 1)]
    assert network.fingerprint == before
    assert torch.equal(torch.get_rng_state(), chance)
    prints = [twin.fingerprint for twin in twins]
    assert prints[0] == prints[1]
    assert len({before, *prints}) == 3
    assert not twins[0].module.training
    norm = twins[0].module.bn1
    assert not norm.training
    assert norm.running_mean.abs().max() > 0
    assert twins[0].name == f"{network.name}, untrained"
