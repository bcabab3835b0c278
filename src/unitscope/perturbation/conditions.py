"""What is done to which units: noise, silence, the mean, or another picture's responses (methods 5).

Problem: a change under noise means something only in comparison: with noise in units that do answer, with other doses,
with silence, and with noise on one path alone.

Idea: each of these is a Condition, four words and a number, and all conditions see the same images and the same noise.

    Condition("noise", "all", "both", 1.0, "chosen")      the paper's (kobayashi2020)
    Condition("zero", "all", "skip", 1.0, "active")       as many active units silenced, on the skip alone
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unitscope.errors import BadInput, unknown_name
from unitscope.recording.replay import PATHS, Path

What = Literal["noise", "zero", "mean", "resample"]
WHATS = ("noise", "zero", "mean", "resample")

TARGETS = ("chosen", "active")
"""The units that were asked for, or, to compare with, as many others of the site that do answer, drawn anew for each
seed."""

DOSES = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Of the dose curve (methods 5); the paper's is 1."""


@dataclass(frozen=True)
class Condition:
    """One way of disturbing a site.

    `what` happens to the units, by `dose` (of noise only); to `which` of them: "all", "one per batch" (drawn anew for
    each batch), or "channel N"; and who reads the disturbed responses: `path`. `target` says whether these are the
    "chosen" units or "active" ones to compare with.
    """

    what: str = "noise"
    which: str = "all"
    path: Path = "both"
    dose: float = 1.0
    target: str = "chosen"

    @property
    def random(self) -> bool:
        """Whether another seed gives another result."""
        if self.what == "noise" and self.dose == 0:
            return False  # whatever is drawn
        return self.what in ("noise", "resample") or self.draws

    @property
    def draws(self) -> bool:
        """Whether the units themselves are drawn."""
        return self.which == "one per batch" or self.target == "active"


def conditions_of(
    *,
    what: str | Sequence[str] = "noise",
    which: str | Sequence[str] = "all",
    path: str | Sequence[str] = "both",
    dose: float | Sequence[float] = 1.0,
    target: str | Sequence[str] = "chosen",
    channels: Sequence[int],
) -> list[Condition]:
    """All combinations of what was asked for; `which` may be "each channel". Raises BadInput for unknown words."""
    whats, paths, targets = _words(what, WHATS), _words(path, PATHS), _words(target, TARGETS)
    whiches = [one for word in _many(which) for one in _which(word, channels)]
    doses = [float(one) for one in (dose if isinstance(dose, Sequence) else [dose])]
    if any(one < 0 for one in doses):
        raise BadInput(f"a dose is a factor of the noise, 0 or more; {min(doses)} came.")
    found = [
        Condition(w, one, p, d if w == "noise" else 1.0, t)  # type: ignore[arg-type]
        for t in targets for w in whats for one in whiches for p in paths for d in doses
    ]  # fmt: skip
    # A single channel is one of the chosen units; there is no such channel among the active ones.
    return list(dict.fromkeys(one for one in found if one.target == "chosen" or not one.which.startswith("channel")))


def protocol(
    channels: Sequence[int], *, skip: bool, active: bool = True, matched: float | None = None
) -> list[Condition]:
    """All conditions that show whether noise in these units means anything (methods 5).

    The paper's two conditions (kobayashi2020, table 1); the same in active units; the dose curve of both, with the dose
    `matched` to the responses of active units (`matching_dose`); zero, mean and resample ablation of both; where there
    is a `skip`, noise into it and into the branch alone; and each channel by itself.
    """
    noise = Condition()
    found = [noise, replace(noise, which="one per batch")]
    found += [replace(noise, dose=dose) for dose in dict.fromkeys([*DOSES, matched]) if dose not in (1, None)]
    found += [replace(noise, what=what) for what in ("zero", "mean", "resample")]
    found += [replace(noise, path=path) for path in ("branch", "skip") if skip]
    found += [replace(one, target="active") for one in found] if active else []
    if len(channels) > 1:
        found += [replace(noise, which=f"channel {channel}") for channel in channels]
    return found


def rectified_noise(shape: Sequence[int], *, generator: torch.Generator) -> Tensor:
    """max(e, 0) with e ~ N(0, 1), independently everywhere: mean 0.3989, variance 0.3408.

    Source: kobayashi2020, section 3.5.
    """
    return torch.randn(tuple(shape), generator=generator).clamp_(min=0)


# E[max(e, 0)^2] = 1/2, and E[max(e, 0)]^2 = 1 / (2 pi).
NOISE_SD = math.sqrt(1 / 2 - 1 / (2 * math.pi))
"""The standard deviation of rectified noise, 0.5838."""


def matching_dose(deviations: Sequence[float]) -> float | None:
    """The dose at which noise varies as much as units that answer do: from their standard deviations over images and
    positions, the median unit's. To three digits; None where it is 0 or unknown.
    """
    middle = statistics.median(deviations) if deviations else 0.0
    return float(f"{middle / NOISE_SD:.3g}") if middle > 0 and math.isfinite(middle) else None


def make_alteration(
    condition: Condition,
    channels: Sequence[int],
    *,
    generator: torch.Generator,
    means: Float[Tensor, " unit"] | None = None,
) -> Callable[[Float[Tensor, "stimulus unit row col"]], None]:
    """What alters the responses of `channels` in place under a condition.

    `means` [unit] are the site's mean responses, which "mean" needs. Noise is added at every position of every picture
    (for a unit that is 0 everywhere, adding is replacing). "resample" gives each picture the maps of another one of the
    same batch, all units from the same one.
    """
    chosen = list(channels)

    def alter(responses: Tensor) -> None:
        if condition.what == "zero":
            responses[:, chosen] = 0
        elif condition.what == "mean":
            assert means is not None
            responses[:, chosen] = means.to(responses)[chosen][None, :, None, None]
        elif condition.what == "resample":
            count = len(responses)
            # A random order, moved on by 1 to count - 1 places: each picture gets the responses of another one, never
            # its own.
            step = int(torch.randint(1, max(count, 2), (1,), generator=generator))
            order = torch.randperm(count, generator=generator)
            other = torch.empty_like(order)
            other[order] = order.roll(step)
            responses[:, chosen] = responses[other.to(responses.device)][:, chosen]
        elif condition.dose:
            shape = (len(responses), len(chosen), *responses.shape[2:])
            noise = rectified_noise(shape, generator=generator).to(responses)
            responses[:, chosen] += condition.dose * noise

    return alter


def _which(word: str, channels: Sequence[int]) -> list[str]:
    if word == "each channel":
        return [f"channel {channel}" for channel in channels]
    if word in ("all", "one per batch"):
        return [word]
    kind, _, number = word.partition(" ")
    if kind == "channel" and number.isdecimal():
        if int(number) not in channels:
            raise BadInput(f"{word} is not among the chosen units, channels {', '.join(map(str, channels))}.")
        return [word]
    raise unknown_name("choice", word, ("all", "one per batch", "each channel"), advice=WHICH)


WHICH = "Which units: all, 'one per batch', 'each channel', or 'channel N'."


def _words(given: str | Sequence[str], known: Sequence[str]) -> list[str]:
    for word in _many(given):
        if word not in known:
            raise unknown_name("choice", word, known, advice=f"There are {', '.join(known)}.")
    return _many(given)


def _many(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)
