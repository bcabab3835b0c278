"""Whether a network's response to a picture is a function of that picture alone.

Problem: all that this package says of a unit (its field, what it prefers, its tuning) takes for granted that the same
picture gives the same response whenever it is shown, and whatever is shown with it. A network in which a normalization
takes the statistics of the batch, in which noise is drawn, or which remembers the last picture breaks this silently.

Idea: show a few pictures in several ways, before anything is measured, and compare what every site answers:

    twice                    [a, b] [a, b]     finds chance, and state that is carried from picture to picture
    alone                    [a]               finds statistics of the batch, pictures that are joined or cut
    with another             [b, c]            finds what depends on the place within a batch, or on its largest value
    in another memory order  channels last     finds networks that must not be shown pictures that way

In floating point these are not equal bit for bit: libraries choose other algorithms for other sizes of a batch. A
difference counts where its root mean square over a unit's responses exceeds `TOLERANCE` of the unit's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Num
from torch import Tensor

from unitscope.anatomy.sites import CannotBeRun, cannot_be_run
from unitscope.errors import BadInput, UnitscopeError, few
from unitscope.pristine import draw_from, keep_pristine
from unitscope.recording.electrode import Electrodes

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site

STIMULI = 3
"""How many different pictures are shown."""

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.2}
"""The share of a unit's own responses by which they may differ from showing to showing, by the coarsest number type
that the network computes in. In float32 the largest found among networks of torchvision and timm is below 1e-4.
"""

FLOOR = 0.1
"""A unit that hardly responds is compared with this share of its site's responses, too."""

SiteResponses = Mapping[str, Tensor]
"""By site: [stimulus unit row col]."""

Cast = Callable[[], AbstractContextManager[Any]]
"""Makes the context in which the network runs (`torch.autocast`)."""


@dataclass(frozen=True)
class Steadiness:
    """What was found of a network whose responses depend on nothing but the picture."""

    stimuli: int
    """How many different pictures were shown."""
    channels_last: bool
    """Whether the network may be shown pictures whose channels lie side by side in memory."""
    difference: float
    """The largest relative difference of a unit's responses between showings."""
    tolerance: float
    changed: tuple[str, ...]
    """What the network changed in itself, without effect on its responses; it was put back."""
    chance: bool
    """Whether the network draws random numbers that its responses depend on (from the seed that was given)."""
    first: SiteResponses
    """The responses to the first two pictures, shown together in the memory order that was chosen."""


def check_steadiness(
    network: Network,
    sites: Mapping[str, Site],
    x: Float[Tensor, "stimulus color height width"],
    *,
    seed: int | None = None,
    cast: Cast = nullcontext,
) -> Steadiness:
    """Show up to three prepared pictures in several ways, and compare the responses of all sites.

    Args:
        network: The network, which is left as it was.
        sites: The sites whose responses are compared.
        x: Prepared pictures.
        seed: From what the network draws random numbers, the same ones each time.
        cast: Makes the context in which the network runs.

    Returns:
        What was found of a network whose responses depend on nothing but the picture.

    Raises:
        BadInput: A response depends on the other pictures, on chance (without a seed), or on what was shown before; or
            a site has not one row per picture.
    """
    return Check(network, sites, three_pictures(x), seed, cast).run()


def three_pictures(
    pictures: Num[Tensor, "stimulus color height width"],
) -> Num[Tensor, "3 color height width"]:
    """The first three different pictures; where there are fewer, inverted and mirrored ones beside them."""
    inverse = ~pictures if pictures.dtype == torch.uint8 else -pictures
    chosen: list[Tensor] = []
    for picture in (*pictures, *inverse, *pictures.flip(3), *(pictures.flip(2) // 2)):
        if not any(torch.equal(picture, other) for other in chosen):
            chosen.append(picture)
        if len(chosen) == STIMULI:
            break
    # A black picture gives fewer than three different ones: some are repeated.
    return torch.stack((chosen * STIMULI)[:STIMULI])


@dataclass(frozen=True)
class Difference:
    """The largest difference of a unit's responses between two showings, as a share of the unit's own."""

    share: float
    unit: str = ""
    one: float = 0.0
    other: float = 0.0


@dataclass
class Check:
    """One network, its sites, three pictures, and how they are shown."""

    network: Network
    sites: Mapping[str, Site]
    x: Tensor
    seed: int | None
    cast: Cast
    drew: bool = False
    """Whether the network has drawn random numbers so far."""

    def run(self) -> Steadiness:
        first, again, changed, drew, last = self.show_twice()
        chance = drew and self.seed is not None
        found = [self.refuse_change(first, again, changed, drew)]
        # A network that draws random numbers draws others for another size of the batch: only repetitions can be
        # compared.
        if not chance:
            alone = self.show(self.x[:1])
            # `alone` is shown in contiguous order. If only channels last differs from it, the survey uses contiguous
            # order.
            if last and largest_difference(rows(first, 0), alone).share > self.tolerance:
                plain = self.show(self.x[:2])
                if largest_difference(rows(plain, 0), alone).share <= self.tolerance:
                    first, last = plain, False
            found.append(self.refuse_dependence(rows(first, 0), alone, changed, "alone"))
            others = self.show(self.x[1:])
            found.append(self.refuse_dependence(rows(first, 1), rows(others, 0), changed, "with another"))
        worst = max(difference.share for difference in found)
        return Steadiness(len(self.x), last, worst, self.tolerance, tuple(changed), chance, first)

    @property
    def tolerance(self) -> float:
        """The tolerance for the coarsest type that the network computes in."""
        kinds = {tensor.dtype for tensor in self.network.module.state_dict().values() if isinstance(tensor, Tensor)}
        with self.cast():
            if torch.is_autocast_enabled(self.x.device.type):
                kinds.add(torch.get_autocast_dtype(self.x.device.type))
        return max((TOLERANCE[kind] for kind in kinds if kind in TOLERANCE), default=TOLERANCE[torch.float32])

    def show_twice(self) -> tuple[SiteResponses, SiteResponses, list[str], bool, bool]:
        """The responses to two pictures, twice in turn; what the network changed; whether it drew random numbers; and
        whether the pictures could be given channels last.
        """
        for last in (True, False):
            layout = torch.channels_last if last else torch.contiguous_format
            pair = self.x[:2].contiguous(memory_format=layout)
            try:
                # Nothing is put back between the two showings, so that whatever the network remembers shows in the
                # second.
                with keep_pristine(self.network.module) as trace:
                    first = self.show(pair, pristine=False)
                    again = self.show(pair, pristine=False)
                return first, again, trace.changed_itself, self.drew or trace.drew_random_numbers, last
            except CannotBeRun:
                if not last:
                    raise
        raise AssertionError("one of the two returns or raises")

    def show(self, x: Tensor, *, pristine: bool = True) -> SiteResponses:
        """The responses of all sites to pictures, read by following every operation of the network."""
        found: dict[str, Tensor] = {}

        def keep(site: Site, value: Tensor) -> None:
            found[site.name] = value.detach().float().clone()

        electrodes = Electrodes(self.network, dict(self.sites), None, pristine=pristine)
        seeded = nullcontext() if self.seed is None else draw_from(self.seed, self.network.module)
        try:
            with torch.no_grad(), self.cast(), seeded:
                before = torch.get_rng_state()
                electrodes.show(x, keep)
                self.drew |= not torch.equal(before, torch.get_rng_state())
        except UnitscopeError:
            raise
        except Exception as error:
            raise cannot_be_run(self.network.module, x, error) from error
        return found

    def refuse_change(self, first: SiteResponses, again: SiteResponses, changed: list[str], drew: bool) -> Difference:
        """Raises BadInput where the same pictures, shown again, give other responses."""
        found = largest_difference(first, again)
        # Chance without a seed is refused even below the tolerance.
        if found.share <= self.tolerance and not (drew and self.seed is None and found.share > 0):
            return found
        numbers = f"{found.unit} gives {found.one:.6g} and then {found.other:.6g} for the same picture"
        name = self.network.name
        if drew and self.seed is None:
            raise BadInput(
                f"{name} draws random numbers when it runs: {numbers}. Switch that off (dropout in training mode, "
                "added noise), or give a seed (`seed=0`, --seed 0), which the record then states."
            )
        itself = f" It changes {few(changed)}, which it keeps from one showing to the next." if changed else ""
        raise BadInput(
            f"{name} depends on what it was shown before: {numbers}.{itself} Its responses belong to no picture alone. "
            "Reset or freeze that state in the module's forward."
        )

    def refuse_dependence(self, here: SiteResponses, there: SiteResponses, changed: list[str], how: str) -> Difference:
        """Raises BadInput where the same picture gives another response when it is shown with others."""
        found = largest_difference(here, there)
        if found.share <= self.tolerance:
            return found
        itself = (
            f" It also changes {few(changed)} when it runs: let it run on pictures of your own first, if it sets "
            "itself by the first that it sees."
            if changed
            else ""
        )
        raise BadInput(
            f"a response of {self.network.name} depends on the other pictures that are shown with it: {found.unit} "
            f"gives {found.one:.6g} for a picture with one other, and {found.other:.6g} for the same picture {how}. "
            "Likely causes are a normalization by the statistics of the batch, or an operation along the axis of "
            f"pictures.{itself} Such responses have no field and no preferred picture; replace that operation, or show "
            "the pictures one by one within the module."
        )


def rows(responses: SiteResponses, stimulus: int) -> SiteResponses:
    """The responses to one of the stimuli."""
    return {name: value[stimulus : stimulus + 1] for name, value in responses.items()}


def largest_difference(one: SiteResponses, other: SiteResponses) -> Difference:
    """The largest relative difference of any unit between two showings of the same pictures.

    Of a unit with responses a and b it is rms(a - b) / max(rms(a), FLOOR rms of the site); infinite where one is not
    finite and the other is not the same.
    """
    worst = Difference(0.0)
    for name, a in one.items():
        share = relative_difference(a, other[name])
        unit = int(share.argmax())
        if float(share[unit]) > worst.share:
            place = (a[:, unit] - other[name][:, unit]).abs().nan_to_num(torch.inf).flatten().argmax()
            values = (float(value[:, unit].flatten()[place]) for value in (a, other[name]))
            worst = Difference(float(share[unit]), f"{name}:{unit}", *values)
    return worst


def relative_difference(
    a: Float[Tensor, "stimulus unit row col"], b: Float[Tensor, "stimulus unit row col"]
) -> Float[Tensor, " unit"]:
    """For each unit the root mean square of the difference, as a share of the unit's own."""
    if a.shape != b.shape:
        return torch.full((a.shape[1],), torch.inf)
    change, power = (a - b).square().mean((0, 2, 3)).sqrt(), a.square().mean((0, 2, 3))
    if not bool((change + power).isfinite().all()):  # rare: some responses are not finite, and must be so in both
        alike = (a == b) | (a.isnan() & b.isnan())
        change = torch.where(alike, 0.0, a - b).square().mean((0, 2, 3)).sqrt().nan_to_num(torch.inf, torch.inf)
        # In float64, since the squares of large responses may have overflowed.
        power = torch.where(a.isfinite(), a, 0.0).double().square().mean((0, 2, 3)).float()
    scale = torch.maximum(power.sqrt(), FLOOR * power.mean().sqrt())
    return torch.where(change == 0, 0.0, change / scale.clamp(min=1e-30)).cpu()
