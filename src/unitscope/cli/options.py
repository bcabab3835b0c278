"""What was typed on the command line, understood: text becomes a network, a size, a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cyclopts import Parameter

from unitscope.errors import BadInput

if TYPE_CHECKING:
    from unitscope.networks import Network


@Parameter(name="*")
@dataclass(frozen=True)
class ModelOptions:
    """How the network is made and shown pictures, where its name and weights do not say so."""

    weights: str | None = None
    "A safetensors, .pt or .pth file, the name of published weights (DEFAULT), or random:SEED. Without: random weights."
    size: str | None = None
    "Height and width of the pictures it is shown: 224, or 192x256."
    mean: str | None = None
    "Mean that is subtracted, a number per input channel: 0.485,0.456,0.406."
    std: str | None = None
    "Standard deviation that is divided by, a number per input channel."
    order: Literal["RGB", "BGR"] | None = None
    "Order of the network's input channels."
    width: int | None = None
    "Channels of the first stage (own networks only)."
    classes: str | None = None
    "Number of logits, where the weights do not say it. For perturb also a CSV file: label, class (the logit)."

    @property
    def table_of_classes(self) -> str | None:
        """The CSV file that `classes` names, or None where it is a number, or not given."""
        return None if self.classes is None or self.classes.isdecimal() else self.classes


DEFAULT_MODEL = ModelOptions()


def open_network(model: str, options: ModelOptions, *, table_of_classes: bool = False) -> Network:
    """The network that was asked for. Text is understood here."""
    from unitscope.networks import load
    from unitscope.random_copies import untrained

    seed = parse_seed(options.weights)
    if options.table_of_classes and not table_of_classes:
        raise BadInput(f"--classes was {options.classes!r}; expected the number of logits, such as 1000.")
    network = load(
        model,
        options.weights if seed is None else None,
        size=parse_size(options.size),
        mean=parse_numbers("mean", options.mean),
        std=parse_numbers("std", options.std),
        order=options.order,
        width=options.width,
        classes=int(options.classes) if options.classes and options.classes.isdecimal() else None,
    )
    return network if seed is None else untrained(network, seed=seed)


def parse_seed(weights: str | None) -> int | None:
    """The seed of "random:3", None for any other weights. Raises BadInput for a seed that is no number."""
    if weights is None or not weights.startswith("random:"):
        return None
    text = weights.removeprefix("random:")
    if not (text.isascii() and text.isdecimal()):
        raise BadInput(f"--weights was {weights!r}; expected a seed behind random:, such as random:0.")
    return int(text)


def parse_size(text: str | None) -> int | tuple[int, int] | None:
    """Understand "224" and "192x256". Raises BadInput."""
    if text is None:
        return None
    sides = text.lower().replace(" ", "").split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise BadInput(f"--size was {text!r}; expected pixels, such as 224, or height x width, such as 192x256.")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def parse_numbers(name: str, text: str | None) -> tuple[float, ...] | None:
    """Understand "0.5,0.5,0.5". Raises BadInput."""
    try:
        return None if text is None else tuple(float(number) for number in text.replace(",", " ").split())
    except ValueError:
        raise BadInput(
            f"--{name} was {text!r}; expected a number per input channel, such as 0.485,0.456,0.406."
        ) from None


def choose_device(name: str) -> str:
    """The device to compute on; "auto" is the first GPU, or else the CPU. Raises BadInput for one that is not here."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, ValueError):
        raise BadInput(
            f"--device was {name!r}, which this machine does not have; expected auto, cpu or, with a GPU, cuda."
        ) from None
    return name
