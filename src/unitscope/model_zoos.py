"""Networks made elsewhere: torchvision's and timm's models, and whatever a factory function makes.

The libraries are imported where they are used; what their models expect of pictures is read from their own
descriptions.
"""

from __future__ import annotations

import importlib
import inspect
import operator
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from torch import nn

from unitscope.errors import BadInput, Failure, UnknownName, few, near, unknown_name
from unitscope.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class FoundModel:
    """A module, and what its makers say of it. `weights` is empty where they are random; None is not known."""

    module: nn.Module
    weights: str = ""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    logits: int | None = None
    inputs: int | None = None


def from_torchvision(name: str, published: str | None, *, logits: int | None, inputs: int | None = None) -> FoundModel:  # noqa: ARG001
    """A model of torchvision, with the published weights of that name, or random ones.

    Raises UnknownName for the model or the weights, Failure where torchvision is missing or the weights cannot be
    fetched.
    """
    models = _library("torchvision.models")
    if name not in models.list_models():
        raise unknown_name("model", name, models.list_models(), where="torchvision")
    choices, categories = models.get_model_weights(name), None
    chosen = None if published is None else _choice(name, published, choices)
    options: dict[str, Any] = {"weights": chosen, "progress": False}
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        options["weights_backbone"] = None  # else random weights would mean a download
    if chosen is not None:
        categories = tuple(chosen.meta.get("categories") or ()) or None
        _check_logits(f"torchvision:{name}", logits, categories and len(categories))
    elif logits is not None:
        options["num_classes"] = logits
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", FutureWarning
            )  # googlenet and inception_v3, about how they draw random weights
            module = models.get_model(name, **options)
    except (OSError, RuntimeError) as error:
        if chosen is None:
            raise
        advice = f"Fetch {chosen.url} elsewhere, and give the file as weights."
        raise Failure(
            f"the weights {chosen.name} of torchvision:{name} could not be fetched ({error}). {advice}"
        ) from error
    described = chosen or next(iter(choices), None)
    known = Preprocessing() if described is None else _transforms(described.transforms())
    side = getattr(module, "image_size", None)  # a vision transformer takes one size only
    size = (side, side) if isinstance(side, int) else None
    known = Preprocessing(size, classes=categories).otherwise(known)
    return FoundModel(module, chosen.name if chosen else "", known, logits, 3)


def from_timm(name: str, published: str | None, *, logits: int | None, inputs: int | None = None) -> FoundModel:
    """A model of timm, with the published weights of that tag ("DEFAULT": timm's choice), or random ones.

    Raises UnknownName for the model or the tag, Failure where timm is missing or the weights cannot be fetched.
    """
    timm = _library("timm")
    kind, _, tag = name.partition(".")
    if not timm.is_model(kind):
        raise unknown_name("model", name, timm.list_models(), where="timm")
    tag = tag if published in (None, "DEFAULT") else str(published)
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{kind}.*")]
    if tag and tag not in tags:
        raise unknown_name("weights", tag, tags, where=f"timm:{kind}", advice=f"It has {few(tags, most=6) or 'none'}.")
    options: dict[str, Any] = {} if inputs is None else {"in_chans": inputs}
    if published is not None:
        _check_logits(
            f"timm:{name}", logits, timm.get_pretrained_cfg_value(f"{kind}.{tag}" if tag else kind, "num_classes")
        )
    elif logits is not None:
        options["num_classes"] = logits
    try:
        module = timm.create_model(f"{kind}.{tag}" if tag else kind, pretrained=published is not None, **options)
    except Exception as error:
        if published is None:
            raise
        advice = "Fetch them elsewhere, and give the file as weights."
        raise Failure(f"the weights of timm:{name} could not be fetched ({_cause(error)}). {advice}") from error
    about = module.pretrained_cfg
    known = Preprocessing(tuple(about["input_size"][1:]), tuple(about["mean"]), tuple(about["std"]))
    return FoundModel(
        module, (about.get("tag") or "DEFAULT") if published else "", known, logits, inputs or about["input_size"][0]
    )


ZOOS = {"torchvision": from_torchvision, "timm": from_timm}


def torchvision_names() -> list[str]:
    """The names of torchvision's models, none where it cannot be imported."""
    try:
        return list(_library("torchvision.models").list_models())
    except Failure:
        return []


def made_by(module: str, factory: str) -> Any:
    """What `factory` in `module` makes, or is: a network, for whoever asked to judge.

    Raises UnknownName where there is no such module or factory, and Failure where either raises.
    """
    text = f"{module}:{factory}"
    try:
        home = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise Failure(f"{text}: importing {module} failed: {_cause(error)}.") from error
        close = [f"'{zoo}:{factory}'" for zoo in near(module, ZOOS)]
        hint = f"Close: {few(close)}." if close else "If it is yours, put its folder on PYTHONPATH."
        raise UnknownName(f"{text}: there is no module {error.name!r} to import. {hint}") from error
    except Exception as error:
        raise Failure(f"{text}: importing {module} failed: {_cause(error)}.") from error
    try:
        found = operator.attrgetter(factory)(home)
    except AttributeError:
        raise unknown_name(
            "factory", factory, [n for n in dir(home) if not n.startswith("_")], where=f"the module {module}"
        ) from None
    if isinstance(found, nn.Module) or not callable(found):
        return found
    try:
        return found()
    except Exception as error:
        raise Failure(f"{text} was called without arguments and failed: {_cause(error)}.") from error


def _library(name: str) -> ModuleType:
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise Failure(f"{package} is installed but cannot be imported: {_cause(error)}.") from error
        raise Failure(
            f"{package}:NAME needs {package}, which is not installed. Install it: pip install 'unitscope[models]'."
        ) from None
    except (ImportError, RuntimeError) as error:  # torchvision built for another torch
        raise Failure(f"{package} is installed but cannot be imported beside this torch: {_cause(error)}.") from error


def _choice(name: str, published: str, choices: Any) -> Any:
    """The member of torchvision's weights of that name."""
    if published not in choices.__members__:
        known = list(choices.__members__)
        where = f"torchvision:{name}"
        advice = f"It has {few(known, most=6)}." if known else "It has none."
        raise unknown_name("published weights", published, known, where=where, advice=advice)
    return choices[published]


def _check_logits(model: str, asked: int | None, has: int | None) -> None:
    if asked is not None and has not in (None, asked):
        raise BadInput(f"{model} with published weights has {has} logits; it cannot have {asked}.")


def _transforms(shown: Any) -> Preprocessing:
    """What torchvision's evaluation transforms say, as far as they say it."""
    sides: Sequence[int] | None = getattr(shown, "crop_size", None) or getattr(shown, "resize_size", None)
    mean, std = getattr(shown, "mean", None), getattr(shown, "std", None)
    size = None if sides is None else (int(sides[0]), int(sides[-1]))
    return Preprocessing(size, None if mean is None else tuple(mean), None if std is None else tuple(std))


def _cause(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
