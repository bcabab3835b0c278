"""The numbers of a training: a `Recipe` holds them for Python and for the options of `unitscope train` alike.

learning rate, "steps"    lr |-----.                cosine, warmup    lr |   .--.
                             |     `-----.                               | /     `-.
                             |           `-----                          |/         `--
                             0    1/3   2/3   epochs                      0          epochs
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter, validators
from cyclopts.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from unitscope.errors import BadInput

Share = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1))]


@Parameter(name="*")
@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are those of kobayashi2020, section 3.1 (SGD, Szegedy's crops); flips are ours
    (methods 9).

    `schedule` is "steps" (divided by 10 at one and two thirds of the epochs, as in the paper) or "cosine" (to zero);
    both may be led in by `warmup` epochs of rising learning rate. With `first_size`, crops begin at that many pixels
    and grow, in steps of 16, to `size` at three quarters of the epochs: small crops are cheap and a good start.
    """

    epochs: PositiveInt = 90
    "How often every image is shown."
    batch: PositiveInt = 256
    "Images per step."
    learning_rate: PositiveFloat = 0.01
    "To begin with."
    momentum: Share = 0.9
    "Of the stochastic gradient descent."
    weight_decay: NonNegativeFloat = 1e-4
    "Of all parameters."
    schedule: Literal["steps", "cosine"] = "steps"
    "Divide the learning rate by 10 at one and two thirds, or let it fall as a cosine."
    warmup: NonNegativeFloat = 0.0
    "Epochs in which the learning rate rises."
    size: PositiveInt = 224
    "Height and width of the crops, in pixels."
    first_size: PositiveInt | None = None
    "Begin with crops of so many pixels, and let them grow."
    smallest_area: Share = 0.08
    "The smallest crop, as a share of the photograph."
    flip: Share = 0.5
    "How often a crop is mirrored, 0 to 1."
    seed: NonNegativeInt = 0
    "Of the first weights, of order, crops and flips."
    bf16: bool = False
    "Compute in bfloat16 where that is safe."

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "size"):
            if getattr(self, name) < 1:
                raise BadInput(f"a recipe needs {name} of at least 1; it was given {getattr(self, name)}.")
        if self.schedule not in ("steps", "cosine"):
            raise BadInput(f"{self.schedule!r} is no schedule; choose 'steps' or 'cosine'.")
        if not 0 < self.smallest_area <= 1:
            raise BadInput(
                f"smallest_area is a share of the picture, above 0 and up to 1; it was {self.smallest_area}."
            )

    def rate(self, progress: float) -> float:
        """The learning rate at `progress`, in epochs."""
        if progress < self.warmup:
            return self.learning_rate * max(progress, 1e-3) / self.warmup
        if self.schedule == "steps":
            return self.learning_rate * 0.1 ** int(3 * progress / self.epochs)
        share = (progress - self.warmup) / max(self.epochs - self.warmup, 1e-9)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))

    def crop(self, epoch: int) -> int:
        """The side of the crops of an epoch, in pixels."""
        if self.first_size is None:
            return self.size
        share = min(1.0, epoch / max(0.75 * self.epochs, 1.0))
        return min(self.size, self.first_size + int((self.size - self.first_size) * share) // 16 * 16)
