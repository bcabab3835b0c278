"""Whatever option is typed reaches the function that does the work: each verb, its options one by one."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unitscope.cli import app
from unitscope.option_groups import (
    DistributionOptions,
    PositionSearchOptions,
    PresentationOptions,
    RepeatOptions,
    SearchOptions,
    SummaryOptions,
)
from unitscope.perturbation.experiment import perturb
from unitscope.recording.survey import survey
from unitscope.synthesis.maximize import maximize
from unitscope.synthesis.position_study import positions

TINY = "tests.tiny:network"


class Heard(Exception):
    """The arguments have come; nothing is to be done with them."""


VERBS: dict[str, tuple[tuple[str, ...], tuple[str, ...], dict[str, dict[str, Any]]]] = {
    "survey": (("unitscope.recording.survey.survey",), (TINY, "pictures", "--to", "new"), {
        "--sites 1": {"sites": ["1"]}, "--top 3": {"top": 3}, "--per-image 2": {"per_image": 2},
        "--means best": {"means": ("best",)}, "--responses": {"responses": True}, "--shard 1/2": {"shard": "1/2"},
        "--engine ray": {"engine": "ray"}, "--resize 50": {"resize": 50}, "--batch 5": {"batch": 5},
        "--precision bfloat16": {"precision": "bfloat16"}, "--workers 0": {"workers": 0},
        "--seed 3": {"seed": 3}, "--strict": {"strict": True},
    }),
    "measure": (("unitscope.analysis.measures.measure",), ("record",), {
        "--categories dogs": {"categories": ["dogs"]}, "--pool mean": {"pool": "mean"},
    }),
    "filters": (("unitscope.recording.filter_tables.filters", "unitscope.analysis.couplings.couplings"),
                (TINY, "--record", "record"), {
        "--sites 3": {"sites": ["3"]}, "--mode full": {"mode": "full"}, "--fold": {"folded": True},
        "--weigh-by a b": {"images": ["a", "b"]}, "--untrained 5": {"baselines": 5},
        "--permutations 7": {"permutations": 7}, "--seed 8": {"seed": 8},
    }),
    "maximize": (("unitscope.record.open_record", "unitscope.synthesis.maximize.maximize"),
                 (TINY, "3:1", "--record", "record"), {
        "--at 1,2": {"units": "3:1@1,2"}, "--recipe zipser2015": {"recipe": "zipser2015"},
        "--pole antipreferred": {"pole": "antipreferred"}, "--seeds 4": {"seeds": 4}, "--seed 5": {"seed": 5},
        "--after": {"after": True}, "--start dots": {"start": "dots"}, "--bf16": {"bf16": True},
        "--name mine": {"name": "mine"}, "--batch 6": {"batch": 6},
    }),
    "positions": (("unitscope.synthesis.position_study.positions",), (TINY, "3:1", "--to", "new"), {
        "--grid 2x1": {"grid": (2, 1)}, "--inside": {"border": False}, "--at 1,2 0,3": {"at": [(1, 2), (0, 3)]},
        "--recipe contrast": {"recipe": "contrast"}, "--pole antipreferred": {"pole": "antipreferred"},
        "--seeds 4": {"seeds": 4}, "--seed 5": {"seed": 5}, "--after": {"after": True},
        "--features 1": {"features": "1"}, "--batch 6": {"batch": 6},
    }),
    "sharing": (("unitscope.recording.channel_correlations.sharing",), (TINY, "--record", "record"), {
        "--sites 1": {"sites": ["1"]}, "--untrained 5": {"baselines": 5}, "--batch 6": {"batch": 6},
        "--workers 0": {"workers": 0},
    }),
    "compare": (("unitscope.analysis.channel_sharing.compare",), ("record", "--to", "new"), {
        "--sites 1": {"sites": ["1"]}, "--least 3": {"least": 3}, "--permutations 7": {"permutations": 7},
        "--seed 8": {"seed": 8},
    }),
    "perturb": (("unitscope.perturbation.experiment.perturb",), (TINY, "pictures"), {
        "--record record": {"record": Path("record"), "to": Path("record")}, "--units 1:0": {"units": ["1:0"]},
        "--site 1": {"site": "1"}, "--what zero": {"what": ["zero"], "conditions": None},
        "--which all": {"which": ["all"], "conditions": None}, "--path skip": {"path": ["skip"], "conditions": None},
        "--dose 0.5": {"dose": [0.5], "conditions": None},
        "--target active": {"target": ["active"], "conditions": None},
        "--seeds 4": {"seeds": 4}, "--count 9": {"count": 9}, "--batch 6": {"batch": 6}, "--seed 5": {"seed": 5},
        "--to new": {"to": Path("new")}, "--resize 50": {"resize": 50}, "--workers 3": {"workers": 3},
    }),
    "tuning": (("unitscope.tuning_session.tuning",), (TINY, "--record", "record"), {
        "--sites 1": {"sites": ["1"]}, "--contrast 0.5": {"contrast": 0.5}, "--color-contrast 0.1":
        {"color_contrast": 0.1}, "--null 2": {"null": 2}, "--patches 3": {"patches": 3},
    }),
    "train": (("unitscope.training.train",), ("resnet18", "pictures", "--to", "new", "--width", "8"), {
        "--validation pictures": {"validation": "pictures"}, "--epochs 2": {"epochs": 2}, "--batch 6": {"batch": 6},
        "--learning-rate 0.5": {"learning_rate": 0.5}, "--momentum 0.5": {"momentum": 0.5},
        "--weight-decay 0.5": {"weight_decay": 0.5}, "--schedule cosine": {"schedule": "cosine"},
        "--warmup 3": {"warmup": 3.0}, "--size 64": {"size": 64, "network.size": (64, 64)},
        "--first-size 48": {"first_size": 48}, "--smallest-area 0.3": {"smallest_area": 0.3}, "--flip 0": {"flip": 0.0},
        "--bf16": {"bf16": True}, "--workers 3": {"workers": 3}, "--checkpoint-every 4": {"checkpoint_every": 4},
        "--seed 5": {"seed": 5, "network.weights": "random (seed 5)"},
    }),
    "sites": (("unitscope.networks.load", ), (TINY,), {
        "--weights w.pt": {"weights": "w.pt"}, "--size 64x48": {"size": (64, 48)}, "--order BGR": {"order": "BGR"},
        "--mean 0.1,0.2,0.3": {"mean": (0.1, 0.2, 0.3)}, "--std 0.1,0.2,0.3": {"std": (0.1, 0.2, 0.3)},
        "--width 8": {"width": 8}, "--classes 7": {"classes": 7},
    }),
}  # fmt: skip
"""For each verb the functions that it calls, the words without which it does not go, and what its options become."""

CASES = [(verb, option) for verb, (_, _, options) in VERBS.items() for option in options]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with labeled pictures, in which the verbs run."""
    folder = tmp_path_factory.mktemp("verbs")
    for label in "ab":
        (folder / "pictures" / label).mkdir(parents=True)
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "pictures" / label / "0.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@cache
def arguments_of(verb: str, *words: str) -> dict[str, Any]:
    """What the functions behind a verb are called with, by the names of their parameters."""
    targets, needed, _ = VERBS[verb]
    found: dict[str, Any] = {}

    def heard(function: Callable[..., Any], *, last: bool) -> Callable[..., Any]:
        def hear(*given: Any, **named: Any) -> Any:
            found.update(inspect.signature(function).bind(*given, **named).arguments)
            if last:
                raise Heard
            return SimpleNamespace(path=Path("record"))

        return hear

    with pytest.MonkeyPatch.context() as patch:
        for target in targets:
            module, _, name = target.rpartition(".")
            original = getattr(importlib.import_module(module), name)
            patch.setattr(target, heard(original, last=target == targets[-1]))
        with pytest.raises(Heard):
            app.app([verb, *needed, *words], exit_on_error=False, print_error=False)
    return dict(plain(found))


def plain(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Arguments as they can be compared; of a network what options tell of it, of a recipe of training its parts."""
    for name, value in found.items():
        if name == "network":
            yield from ((f"network.{fact}", getattr(value, fact)) for fact in ("size", "weights"))
        elif name == "recipe" and dataclasses.is_dataclass(value) and hasattr(value, "epochs"):
            yield from dataclasses.asdict(value).items()
        elif name == "recipe":
            yield name, getattr(value, "name", value)
        elif name in ("images", "validation") and hasattr(value, "source"):
            yield name, Path(value.source).name
        elif name == "units" and isinstance(value, list) and hasattr(value[0], "terms"):
            yield name, str(value[0])
        elif name != "progress":
            yield name, value


@pytest.mark.parametrize(("verb", "option"), CASES, ids=lambda text: text)
@pytest.mark.usefixtures("place")
def test_an_option_changes_what_it_is_about_and_nothing_else(verb: str, option: str) -> None:
    expected = VERBS[verb][2][option]
    before, after = arguments_of(verb), arguments_of(verb, *option.split())
    changed = {name: after.get(name) for name in before | after if before.get(name) != after.get(name)}
    if verb == "maximize" and "name" not in expected:
        changed.pop("name", None)  # the set of optima is named for its settings
    assert changed == expected


def keywords_of(function: Callable[..., Any]) -> list[str]:
    """The options of a verb; of a group of options, its fields."""
    keywords = [one for one in inspect.signature(function).parameters.values() if one.kind is one.KEYWORD_ONLY]
    groups = [one for one in keywords if dataclasses.is_dataclass(one.default) and one.name != "options"]
    fields = [field.name for group in groups for field in dataclasses.fields(group.default)]
    return [one.name for one in keywords if one not in groups] + fields


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "sites"])
def test_no_option_is_left_out_above(verb: str) -> None:
    keywords = keywords_of(next(one for one in app.VERBS if one.__name__ == verb))
    tried = {option.split()[0].removeprefix("--").replace("-", "_") for option in VERBS[verb][2]}
    tried |= {word.removeprefix("--") for word in VERBS[verb][1] if word.startswith("--")}
    assert set(keywords) - tried <= {"device", "json", "options", "images", "scores"}


GROUPS = (
    (SummaryOptions, survey), (DistributionOptions, survey), (PresentationOptions, survey), (RepeatOptions, perturb),
    (SearchOptions, maximize), (PositionSearchOptions, positions),
)  # fmt: skip


@pytest.mark.parametrize(("group", "function"), GROUPS, ids=lambda one: one.__name__)
def test_the_python_functions_have_the_options_and_defaults_of_the_command_line(
    group: type, function: Callable[..., Any]
) -> None:
    parameters = inspect.signature(function).parameters
    for field in dataclasses.fields(group):
        assert parameters[field.name].default == field.default, field.name
