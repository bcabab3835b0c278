"""How a network must be shown pictures: facts that arguments, weights files and model zoos each know a part of."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unitscope.errors import BadInput

ORDERS = ("RGB", "BGR", "")

LARGEST_SIZE = 1 << 16
"""No side of a network's input has more pixels."""

FIELD_KINDS: dict[str, tuple[type | tuple[type, ...], str, str]] = {
    "size": (int, "alone or listed", "a whole number of pixels, or [height, width]"),
    "mean": ((int, float), "listed", "a list of one number per input channel"),
    "std": ((int, float), "listed", "a list of one number per input channel"),
    "order": (str, "alone", 'a text such as "RGB"'),
    "classes": (str, "listed", "a list of the names of the logits"),
}
"""What metadata are as JSON: the kind of a value, whether there is one or a list of them, and both in words."""


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
            except (ValueError, RecursionError):  # no JSON; a number of too many digits; nested without end
                raise BadInput(f"the metadata unitscope.{name} should be JSON but is {text[:40]!r}.") from None
            if not _is_kind(values[name], *FIELD_KINDS[name]):
                raise BadInput(
                    f"the metadata unitscope.{name} is {_short(values[name])}; expected {FIELD_KINDS[name][2]}."
                )
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
            raise BadInput(f"order is {_short(self.order)}; expected {expected}.")
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
        raise BadInput(f"size is {_short(size)}; expected one whole number of pixels, or (height, width).")
    if max(sides) > LARGEST_SIZE:
        raise BadInput(f"size is {_short(size)}; expected at most {LARGEST_SIZE:,} pixels a side.")
    return sides[0], sides[1]


def _numbers(what: str, values: Sequence[float] | None) -> tuple[float, ...] | None:
    if values is None:
        return None
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        raise BadInput(
            f"{what} is {_short(values)}; expected one number per input channel, such as (0.5, 0.5, 0.5)."
        ) from None
    if not numbers or not all(math.isfinite(number) for number in numbers):
        raise BadInput(f"{what} is {_short(numbers)}; expected one finite number per input channel.")
    return numbers


def _names(classes: Sequence[str] | None) -> tuple[str, ...] | None:
    if classes is None:
        return None
    listed = isinstance(classes, Iterable) and not isinstance(classes, str | Mapping)
    names = tuple(classes) if listed else ()
    if not names or not all(isinstance(name, str) and _is_text(name) for name in names):
        raise BadInput(f"classes are {_short(classes)}; expected the names of the logits in their order.")
    return names


def _is_kind(value: object, kind: type | tuple[type, ...], how: str, _: str) -> bool:
    """Whether metadata are null, or what KINDS says."""
    listed = isinstance(value, list)
    items = value if isinstance(value, list) else [value]
    right = all(isinstance(item, kind) and not isinstance(item, bool) for item in items)
    return value is None or (right and ("listed" if listed else "alone") in how)


def _is_text(name: str) -> bool:
    """Whether a string can be written down: halves of characters (surrogates) cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _short(value: object) -> str:
    """A value as one types it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
