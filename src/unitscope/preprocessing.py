"""How a network must be shown pictures: facts that arguments, weights files and model zoos each know a part of."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unitscope.errors import BadInput

ORDERS = ("RGB", "BGR", "")


@dataclass(frozen=True)
class Preprocessing:
    """Size (height, width), mean and std per input channel, channel order, names of the logits; None where it is not
    known.

    `mean` and `std` are on the scale of the pictures, 0..1, and in the network's own channel order.
    """

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    order: str | None = None
    classes: tuple[str, ...] | None = None

    @classmethod
    def understand(
        cls,
        *,
        size: int | Sequence[int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        order: str | None = None,
        classes: Sequence[str] | None = None,
    ) -> Preprocessing:
        """What was typed, tuples made of it. Raises BadInput for what cannot be right, alone or together."""
        found = cls(_size(size), _numbers("mean", mean), _numbers("std", std), order, _names(classes))
        found.check()
        return found

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Preprocessing:
        """Read the keys `unitscope.size`, ... of a safetensors file. Raises BadInput for values that are not JSON or
        cannot be right.
        """
        values: dict[str, Any] = {}
        for name in cls.__dataclass_fields__:
            text = metadata.get(f"unitscope.{name}", "null")
            try:
                values[name] = json.loads(text)
            except json.JSONDecodeError:
                raise BadInput(f"the metadata unitscope.{name} should be JSON but is {text[:40]!r}.") from None
        return cls.understand(**values)

    def to_metadata(self) -> dict[str, str]:
        """The same as strings, each under its key; what is not known is left out."""
        return {f"unitscope.{name}": json.dumps(value) for name, value in asdict(self).items() if value is not None}

    def otherwise(self, other: Preprocessing) -> Preprocessing:
        """The same, with what is not known here taken from `other`."""
        mine = {name: value for name, value in self.__dict__.items() if value is not None}
        return Preprocessing(**(other.__dict__ | mine))

    def check(self) -> None:
        """Raises BadInput where the parts contradict each other or the scale of pictures, 0..1."""
        if self.mean is not None and self.std is not None and len(self.mean) != len(self.std):
            story = f"mean and std have {len(self.mean)} and {len(self.std)} numbers"
            raise BadInput(f"{story}; expected one of each per input channel.")
        if self.std is not None and min(self.std) <= 0:
            raise BadInput(f"std is {self.std}; expected numbers above 0, since pictures are divided by them.")
        channels = len(self.mean or self.std or (0, 0, 0))
        if self.order is not None and self.order not in (ORDERS if channels == 3 else ("",)):
            expected = "'RGB', 'BGR' or ''" if channels == 3 else f"'' for {channels} input channels"
            raise BadInput(f"order is {self.order!r}; expected {expected}.")
        if self.mean is not None and channels == 3 and self.order != "" and max(self.mean) > 1:
            raise BadInput(
                f"mean is {self.mean}, which looks like 0..255; pictures are RGB in 0..1: divide mean and std by 255."
            )


IMAGENET = Preprocessing(size=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""How the field shows ImageNet to its networks; what is assumed where nothing better is known."""


def _size(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else size
    right = isinstance(sides, Sequence) and len(sides) == 2
    if not right or not all(isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in sides):
        raise BadInput(f"size is {size!r}; expected one whole number of pixels, or (height, width).")
    return sides[0], sides[1]


def _numbers(what: str, values: Sequence[float] | None) -> tuple[float, ...] | None:
    if values is None:
        return None
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise BadInput(
            f"{what} is {values!r}; expected one number per input channel, such as (0.5, 0.5, 0.5)."
        ) from None
    if not numbers or not all(math.isfinite(number) for number in numbers):
        raise BadInput(f"{what} is {numbers}; expected one finite number per input channel.")
    return numbers


def _names(classes: Sequence[str] | None) -> tuple[str, ...] | None:
    if classes is None:
        return None
    if isinstance(classes, str) or not classes or not all(isinstance(name, str) for name in classes):
        raise BadInput(f"classes are {classes!r}; expected the names of the logits in their order.")
    return tuple(classes)
