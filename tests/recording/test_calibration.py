"""Networks of strangers are read rightly, or refused with a story; and what was found stands in the record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests import strangers
from tests.strangers import STEADY, UNSTEADY, Stranger
from unitscope.anatomy.sites import sites as sites_of
from unitscope.cli.survey import survey_facts
from unitscope.errors import BadInput
from unitscope.networks import Network
from unitscope.record import Record
from unitscope.recording.electrode import choose
from unitscope.recording.fast import reader
from unitscope.recording.reading import read
from unitscope.recording.steadiness import check_steadiness, three_pictures
from unitscope.recording.survey import survey

COUNT = 11


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures")
    for number, picture in enumerate(strangers.pictures(COUNT)):
        levels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(levels).save(path / f"{number:02d}.png")
    return path


def surveyed(network: Network, folder: Path, to: Path, **more: object) -> Record:
    settings = {"sites": "*", "resize": strangers.SIZE, "batch": 4, "workers": 0, "responses": True} | more
    return survey(network, folder, to=to, **settings)  # type: ignore[arg-type]


def plain_responses(network: Network, names: list[str]) -> dict[str, Tensor]:
    """What modules give, by hooks on the untouched network, pictures shown one by one (twice where one is too few)."""
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    heard: dict[str, list[Tensor]] = {}
    modules = dict(network.module.named_modules())

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _given, gives: heard.setdefault(name, []).append(gives.clone())

    handles = [modules[name].register_forward_hook(keep(name)) for name in names]
    for picture in network.prepare(strangers.pictures(COUNT)).split(1):
        heard.clear()
        with torch.no_grad():
            network.module(torch.cat([picture, picture]))
        for name in names:
            found[name].append(heard[name][-1][:1])
    for handle in handles:
        handle.remove()
    return {name: torch.cat(values) for name, values in found.items()}


LAST = {
    "flatten_by_view": "full", "squeeze": "full", "call_forward": "three", "call_forward_last": "three",
    "call_forward_of_norm": "three", "give_by_name": "three", "keep_a_table": "one",
}  # fmt: skip
"""The module whose output is looked at, where it is not `two`."""


@pytest.mark.parametrize("name", STEADY)
def test_a_survey_of_a_strange_network_gives_what_hooks_on_it_give(name: str, folder: Path, tmp_path: Path) -> None:
    network = strangers.network(STEADY[name])
    site = LAST.get(name, "two")
    truth = plain_responses(strangers.network(STEADY[name]), [site])[site]
    truth = truth if truth.ndim == 4 else truth[:, :, None, None]
    record = surveyed(network, folder, tmp_path / "r")
    first = record.sites[site].first_unit
    peaks, troughs = (
        record.array(f"responses/{what}")[first : first + truth.shape[1]].T for what in ("peak", "trough")
    )
    np.testing.assert_allclose(peaks, truth.amax((2, 3)), atol=1e-5)
    np.testing.assert_allclose(troughs, truth.amin((2, 3)), atol=1e-5)
    alone = read(network, strangers.pictures(1), site)[site]
    np.testing.assert_allclose(alone, truth[:1], atol=1e-5)


@pytest.mark.parametrize("name", UNSTEADY)
def test_what_depends_on_company_chance_or_state_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    run, story = UNSTEADY[name]
    network = strangers.network(run)
    before = {key: value.clone() for key, value in network.module.state_dict().items()}
    site = "act" if name == "cut_in_pairs" else "relu"
    with pytest.raises(BadInput, match=story):
        surveyed(network, folder, tmp_path / "r", sites=site)
    with pytest.raises(BadInput, match=story):
        read(network, strangers.pictures(2), site)
    assert all(torch.equal(value, before[key]) for key, value in network.module.state_dict().items())
    assert not (tmp_path / "r" / "record.json").exists()


def test_chance_is_read_from_a_seed_that_the_record_states(folder: Path, tmp_path: Path) -> None:
    network, tables = strangers.network(strangers.add_noise), []
    before = torch.get_rng_state()
    for number, seed in enumerate((1, 1, 2)):
        record = surveyed(network, folder, tmp_path / f"r{number}", seed=seed)
        assert record.facts["seed"] == seed
        assert record.facts["calibration"]["chance"] is True
        tables.append(record.units().peak_mean)
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])
    assert torch.equal(torch.get_rng_state(), before)
    values = [
        read(strangers.network(strangers.add_noise), strangers.pictures(2), "relu", seed=s)["relu"] for s in (1, 1, 2)
    ]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


def test_a_seed_changes_nothing_where_there_is_no_chance(folder: Path, tmp_path: Path) -> None:
    one, other = (
        surveyed(strangers.network(STEADY["in_several_types"]), folder, tmp_path / f"r{seed}", seed=seed).units()
        for seed in (None, 3)
    )
    assert one.equals(other)


def test_a_network_that_was_set_by_pictures_of_ones_own_is_surveyed(folder: Path, tmp_path: Path) -> None:
    network = strangers.network(strangers.set_at_first_sight)
    sites_of(network)
    assert not network.module.ready  # a blank picture is not what it sets itself by
    network(strangers.pictures(4))
    assert network.module.ready
    record = surveyed(network, folder, tmp_path / "r")
    assert record.facts["calibration"]["changed_and_put_back"] == []


def test_what_a_network_changes_without_effect_is_put_back_and_named(folder: Path, tmp_path: Path) -> None:
    network = strangers.network(strangers.count_calls)
    record = surveyed(network, folder, tmp_path / "r")
    assert record.facts["calibration"]["changed_and_put_back"] == ["calls"]
    told = " ".join(survey_facts(record).split())
    assert told.endswith("was read in the plain way, which takes longer: the network changes itself when it runs.")
    assert network.module.calls == 0


def test_the_record_says_how_it_was_read(folder: Path, tmp_path: Path) -> None:
    def plainly_built(m: Stranger, x: Tensor) -> Tensor:
        return m.relu(m.two(m.act(m.norm(m.one(x)))))

    facts = surveyed(strangers.network(plainly_built), folder, tmp_path / "a").facts["calibration"]
    assert (facts["way"], facts["memory_format"], facts["stimuli"]) == ("quick", "channels last", 3)
    assert facts["largest_difference"] < facts["tolerance"]
    facts = surveyed(strangers.network(strangers.flatten_by_view), folder, tmp_path / "b").facts["calibration"]
    assert facts["memory_format"] == "contiguous"


def test_where_the_quick_way_reads_other_numbers_the_plain_one_is_taken(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plainly_built(m: Stranger, x: Tensor) -> Tensor:
        return m.relu(m.two(m.act(m.norm(m.one(x)))))

    right = surveyed(strangers.network(plainly_built), folder, tmp_path / "a")
    placed = reader.place

    def misplaced(network: Network, sites: dict[str, object], **more: object) -> object:
        found = placed(network, sites, **more)  # type: ignore[arg-type]
        if found.taps is not None:
            one, *others = found.taps
            object.__setattr__(found, "taps", (*others, type(one)(one.site, network.module.two, False, 0, 1)))
        return found

    monkeypatch.setattr(reader, "place", misplaced)
    record = surveyed(strangers.network(plainly_built), folder, tmp_path / "b")
    assert record.facts["calibration"]["way"] == "plain"
    assert "quick way" in record.facts["calibration"]["reason"]
    assert record.units().equals(right.units())


def test_company_is_noticed_among_pictures_that_are_all_the_same() -> None:
    network = strangers.network(strangers.normalize_by_batch)
    same = strangers.pictures(1).expand(3, -1, -1, -1)
    with pytest.raises(BadInput, match="depends on the other pictures"):
        read(network, same, "relu")


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_three_pictures_differ(count: int) -> None:
    for same in (strangers.pictures(count), strangers.pictures(1).expand(count, -1, -1, -1)):
        for chosen in (three_pictures(same), three_pictures((same * 255).byte())):
            assert len({picture.numpy().tobytes() for picture in chosen}) == 3


def test_a_normalization_without_statistics_is_refused_by_name() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU())
    with pytest.raises(BadInput, match=r"^1 normalizes by the statistics of the batch also in evaluation"):
        sites_of(Network(module, size=16, mean=(0.5,) * 3, std=(0.25,) * 3))


def test_fields_behind_a_mean_over_the_batch_are_unknown() -> None:
    found = sites_of(strangers.network(strangers.normalize_by_batch))
    assert found["one"].field().status == "exact"
    assert found["relu"].field().status == "unknown"
    assert "over the stimuli of a batch" in found["relu"].field().cause


def test_half_precision_has_a_tolerance_of_its_own() -> None:
    def plainly_built(m: Stranger, x: Tensor) -> Tensor:
        return m.relu(m.two(m.act(m.norm(m.one(x)))))

    network = strangers.network(plainly_built)
    network.module.bfloat16()
    x = network.prepare(strangers.pictures(3))
    found = check_steadiness(network, choose(sites_of(network), ["*"]), x)
    assert found.difference < found.tolerance == 0.2
