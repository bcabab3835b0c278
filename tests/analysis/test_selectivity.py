"""Category selectivity of hand-wired units, from a record alone: checks 34 to 38 of the methods, and brute force."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from tests.kennel import EACH, GREENS, OTHERS, REDS, two_sided_network, write_kennel
from tests.oracles import choices
from tests.wiring import COLORS, category_network, uniform, write_folder
from unitscope.analysis.categories import Category
from unitscope.analysis.measures import TABLES, measure
from unitscope.analysis.selectivity import label_curve, selectivity
from unitscope.cli.app import main
from unitscope.errors import BadInput
from unitscope.networks import Network
from unitscope.record import Record
from unitscope.recording.survey import survey


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kennel(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def network() -> Network:
    return two_sided_network()


@pytest.fixture(scope="module")
def heard(network, folder, tmp_path_factory) -> Record:
    to = tmp_path_factory.mktemp("records") / "heard"
    return survey(network, folder, to=to, sites=["conv1", "relu"], top=16, responses=True)


@pytest.fixture(scope="module")
def summed(network, folder, tmp_path_factory) -> Record:
    return survey(network, folder, to=tmp_path_factory.mktemp("records") / "r", sites=["conv1", "relu"], top=16)


def of(table: pandas.DataFrame, channel: int, site: str = "conv1") -> pandas.Series:
    rows = table[(table.site == site) & (table.channel == channel)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_a_unit_for_half_the_breeds_and_against_the_others_has_dogs_at_both_ends(heard):
    table = selectivity(heard, "dogs")
    opponent = of(table, 0)
    assert (opponent.images, opponent.category_images) == (160, 80)
    assert opponent.preferred_images == opponent.antipreferred_images == 8
    assert (opponent.preferred_share, opponent.antipreferred_share, opponent.dichotomy) == (1, 1, 1)
    assert opponent.selectivity == 1
    assert opponent.overlap == 0
    assert (opponent.blocks, opponent.category_blocks) == (8, 4)
    assert opponent.labels_below == 0.5
    assert opponent.preferred_enrichment == 2


def test_units_for_one_kind_of_images_are_at_the_ends_of_every_index(heard):
    table = selectivity(heard, "dogs")
    for channel, index, fsi, auroc in ((1, 1, 1, 1), (2, 0, -1, 0)):
        unit = of(table, channel)
        assert (unit.selectivity, unit.fsi, unit.auroc, unit.proportion) == (index, fsi, auroc, index)
        assert unit.preferred_share == index
        assert unit.note is None or "lower end" in unit.note
    assert of(table, 2).class_selectivity < 1
    labels = selectivity(heard, "labels")
    assert set(labels.category) >= {"Chihuahua", "tench", "parachute"}
    assert len(labels) == 8 * len(heard.units())


def test_a_unit_that_never_answers_has_no_index_and_says_why(heard):
    silent = of(selectivity(heard, "dogs"), 3)
    assert np.isnan(silent.selectivity)
    assert np.isnan(silent.proportion)
    assert silent.note.startswith("No response above zero")
    assert silent.auroc == pytest.approx(0.97, abs=0.04)


def test_behind_a_rectification_there_is_no_lower_end(heard):
    table = selectivity(heard, "dogs")
    opponent = of(table, 0, "relu")
    assert opponent.antipreferred_images == 0
    assert np.isnan(opponent.antipreferred_share)
    assert np.isnan(opponent.antipreferred_p)
    assert np.isnan(opponent.dichotomy)
    assert "No lower end" in opponent.note
    assert opponent.preferred_share == 1
    assert of(table, 3, "relu").preferred_images == 0


def test_all_numbers_equal_brute_force(heard):
    peak, trough = (heard.array(f"responses/{kind}")[:5] for kind in ("peak", "trough"))
    images = heard.images()
    member = images["label"].isin([*REDS, *GREENS]).to_numpy()
    table = selectivity(heard, "dogs")
    chances = []
    for channel in range(5):
        unit, values = of(table, channel), peak[channel].tolist()
        for name, oracle in (
            ("selectivity", choices.share_of_rectified), ("auroc", choices.pairs_won), ("d_prime", choices.distance),
        ):  # fmt: skip
            np.testing.assert_allclose(unit[name], oracle(values, member.tolist()), rtol=1e-6)
        for pole, ordered in (
            ("preferred", np.argsort(-peak[channel])),
            ("antipreferred", np.argsort(trough[channel])),
        ):
            if unit[f"{pole}_images"]:
                chosen = ordered[: int(unit[f"{pole}_images"])]
                hits = int(member[chosen].sum())
                assert unit[f"{pole}_share"] == hits / len(chosen)
                at_end = images["label"].iloc[chosen].tolist()
                p = choices.chance_of_groups(at_end, images["label"].tolist(), {*REDS, *GREENS})
                assert unit[f"{pole}_p"] == pytest.approx(p, rel=1e-9)
                counts = [int((images["label"].iloc[chosen] == label).sum()) for label in (*REDS, *GREENS)]
                if sum(counts):
                    evenness = choices.entropy_over_maximum(counts)
                    assert unit[f"{pole}_evenness"] == pytest.approx(evenness, abs=1e-12)
    for pole in ("preferred", "antipreferred"):
        known = table[table[f"{pole}_p"].notna()]
        chances = choices.benjamini_hochberg(known[f"{pole}_p"].tolist())
        np.testing.assert_allclose(known[f"{pole}_q"], chances, rtol=1e-9)


def test_summaries_alone_give_the_same_as_all_responses(heard, summed):
    full, brief = selectivity(heard, ["dogs", "artifacts"]), selectivity(summed, ["dogs", "artifacts"])
    for name in ("d_prime", "auroc"):
        assert brief.pop(name).isna().all()
        full.pop(name)
    assert brief.pop("note").str.contains("d' and AUROC need each image's response, which a survey with --resp").all()
    full.pop("note")
    pandas.testing.assert_frame_equal(brief, full, rtol=1e-5, atol=1e-5, check_dtype=False)


def test_ends_are_as_long_as_the_list_allows(network, folder, tmp_path):
    short = survey(network, folder, to=tmp_path / "r", sites=["conv1"], top=3)
    assert of(selectivity(short, "dogs"), 0).preferred_images == 3


def test_poolings_of_the_map(heard, summed):
    for pool in ("mean", "min"):
        unit = of(selectivity(heard, "dogs", pool=pool), 0)
        assert (unit.selectivity, unit.dichotomy) == (1, 1)
        with pytest.raises(BadInput, match=f"`unitscope survey --responses` keeps the {pool}"):
            selectivity(summed, "dogs", pool=pool)


def test_indices_that_disagree_are_named(heard):
    few = Category("some blue", frozenset(OTHERS[:2]))
    unit = of(selectivity(heard, few), 4)
    assert unit.selectivity > 0.65
    assert unit.proportion < 0.5
    assert "Yet the category has only" in unit.note
    opponent = of(selectivity(heard, "dogs"), 0)
    assert opponent.note.startswith("selectivity (1.00) would call it selective, d' (")
    assert opponent.note.endswith("would not.")


def test_the_curve_over_labels(heard):
    curve = label_curve(heard, "conv1:0", "dogs")
    assert set(curve.label[:2]) == set(REDS)
    assert set(curve.label[-2:]) == set(GREENS)
    assert curve.member.sum() == 4
    assert (curve["mean"].diff().dropna() <= 0).all()
    assert (curve["images"] == EACH).all()


def test_showing_one_kind_of_images_ten_times_leaves_the_index(network, folder, tmp_path):
    once = {label: [_picture(path) for path in sorted((folder / label).iterdir())] for label in (*REDS, *OTHERS)}
    more = once | {f"{label}-{number}": once[label] for label in REDS for number in range(9)}
    found = []
    for name, pictures in (("once", once), ("more", more)):
        shown = write_folder(tmp_path / name, pictures)
        record = survey(network, shown, to=tmp_path / f"{name}.record", sites=["conv1"], top=5)
        reds = Category("reds", frozenset(label for label in pictures if label[:9] in REDS))
        found.append(of(selectivity(record, reds), 4))
    assert found[0].selectivity == pytest.approx(found[1].selectivity, rel=1e-5)
    assert found[1].proportion > found[0].proportion + 0.1


def _picture(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(path), dtype=np.float32) / 255).permute(2, 0, 1)


def test_the_table_is_written_and_told_of(heard):
    made = measure(heard, categories=["dogs"])
    kept = heard.measures("selectivity")
    assert len(kept) == len(made["selectivity"]) == len(heard.units())
    told = {column.name for column in TABLES["selectivity"].columns}
    facts = {"unit", "site", "channel", "category", "images", "category_images", "blocks", "category_blocks",
             "preferred_images", "antipreferred_images", "preferred_label", "note"}  # fmt: skip
    assert set(kept.columns) == told | facts
    assert "selectivity" not in measure(heard)
    for column in TABLES["selectivity"].columns:
        low, high = column.range
        assert kept[column.name].dropna().between(low, high).all(), column.name


def test_the_colors_of_the_category_network_are_its_categories(tmp_path):
    pictures = {name: [uniform(color)[0] * (1 - n / 1000) for n in (0, 8, 16)] for name, color in COLORS.items()}
    record = survey(category_network(), write_folder(tmp_path / "p", pictures), to=tmp_path / "r", sites=["conv1"])
    table = selectivity(record, "labels")
    for channel, name in enumerate(COLORS):
        unit = table[(table.channel == channel) & (table.category == name)].iloc[0]
        assert unit.selectivity == 1
        assert unit.preferred_label == name
        assert unit.class_selectivity == 1


def test_of_crops_of_one_photograph_nothing_is_found(network, tmp_path):
    """Ten crops of each of six photographs, a label each: every unit prefers some photograph, none more than chance."""
    pictures = {name: [uniform(color)[0] * (1 - n / 300) for n in range(10)] for name, color in COLORS.items()}
    folder = write_folder(tmp_path / "p", pictures)
    rows = [
        f"{path.relative_to(folder)},{path.parent.name},{path.parent.name}" for path in sorted(folder.rglob("*.png"))
    ]
    (folder / "list.csv").write_text("uri,label,photograph\n" + "\n".join(rows) + "\n")
    record = survey(network, folder / "list.csv", to=tmp_path / "r", sites=["conv1"], responses=True)
    assert record.images()["photograph"].tolist() == record.images()["label"].tolist()
    table = selectivity(record, "labels")
    assert (table["preferred_share"] == 1).any()
    assert table["preferred_p"].min() == pytest.approx(1 / len(COLORS))
    assert (table["preferred_q"].dropna() > 0.05).all()
    some = frozenset(record.images()["uri"][::2])
    assert selectivity(record, Category("every other crop", uris=some))["preferred_p"].isna().all()


def test_what_is_not_finite_has_no_number(heard):
    facts = {**heard.facts, "settings": {**heard.facts["settings"], "responses": False}}
    brief = selectivity(dataclasses.replace(heard, facts=facts), "dogs")
    assert brief.auroc.isna().all()
    assert brief.selectivity.notna().any()


def test_images_named_one_by_one_have_ends_but_no_indices_from_summaries(heard, summed):
    uris = summed.images()
    some = Category("some dogs", uris=frozenset(uris.loc[uris["label"].isin(REDS), "uri"]))
    brief, full = (of(selectivity(record, some), 0) for record in (summed, heard))
    assert np.isnan(brief.selectivity)
    assert brief.note == "Indices need each image's response, which a survey with --responses keeps."
    assert (brief.preferred_share, brief.antipreferred_share) == (full.preferred_share, 0)
    assert full.selectivity == 1


def test_the_verb_tells_how_many_units_are_selective_and_at_which_ends(heard, capsys):
    with pytest.raises(SystemExit) as done:
        main(["measure", str(heard.path), "--categories", "dogs", "labels"])
    told = capsys.readouterr().out
    assert done.value.code == 0
    assert "dogs: 80 of 160 labeled images, 50.0 %." in told
    rows = [line.split() for line in told[told.index("dogs: 80") :].splitlines()]
    assert ["conv1", "5", "2", "0.521", "0", "0", "0"] in rows
    assert "of 8 it is 1, no p can be below 1/8" in " ".join(told.split())
    assert max(map(len, told.replace(str(heard.path), "").splitlines())) <= 80
    with pytest.raises(SystemExit) as done:
        main(["measure", str(heard.path), "--categories", "dogz"])
    assert done.value.code == 2
    assert "Close: 'dogs'" in capsys.readouterr().err
