"""How good optimal stimuli are: what their neurons answer to them and to rivals of the same norm (methods 3.5).

All stimuli are brought to the same root mean square contrast around the mean color, within 0..1, on the pixels that the
neuron sees; so a larger response is not bought with more contrast. Rivals are the best natural patches of a record, its
mean preferred stimulus, noise, and, where the response is linear in the picture, the exact optimum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unitscope.errors import BadInput, UnitscopeError, UnknownName
from unitscope.networks import Network
from unitscope.optima import Optima, Optimum, refuse_foreign
from unitscope.record import Record
from unitscope.recording.showing import luma
from unitscope.recording.source_images import Originals, originals_of
from unitscope.stimuli.items import Unreadable
from unitscope.synthesis.canvases import Contrast, Scene
from unitscope.synthesis.evaluators import subject_of
from unitscope.synthesis.objectives import Objective, check, positions
from unitscope.synthesis.optimize import (
    Job,
    NoGradient,
    Progress,
    Search,
    fitting,
    generator_of,
    gradient_of,
    placed,
    scene_of,
)
from unitscope.synthesis.recipes import kobayashi2020
from unitscope.vocabulary import Box

if TYPE_CHECKING:
    import pandas

CONTRASTS = (0.2,)
"""Root mean square contrasts (of RGB in 0..1) at which optima are scored unless others are asked for."""

NATURAL, NOISE = 9, 8
"""How many natural patches and pictures of noise each optimum is held against."""


def score(
    network: Network,
    optima: Optima,
    *,
    record: Record | None = None,
    contrasts: Sequence[float] = CONTRASTS,
    natural: int = NATURAL,
    noise: int = NOISE,
    seed: int = 0,
    originals: Originals | None = None,
    progress: Progress | None = None,
) -> pandas.DataFrame:
    """What the neurons answer to their optima and to rivals, all at the same norm: a row per objective, seed and
    contrast.

    Columns: `objective`, `site`, `channel`, `seed`, `contrast`; `response` to the optimum; `natural`, the strongest
    response to the record's first `natural` stimuli of this pole, and `natural_n`, how many there were;
    `mean_stimulus`, to the mean preferred stimulus less that of the site's other units; `noise`, the mean response to
    `noise` pictures of Gaussian noise; `exact`, to the best picture there is, where the response is linear in it;
    `blank`, to the mean color; `shifted`, the mean response to the optimum moved by the site's stride in eight
    directions; `clipped`, the share of the optimum's numbers at the bounds of 0..1; `beats_natural`, whether the
    optimum is ahead of the best natural stimulus; `why` says what is missing. What is not known is null.

    Responses are read as they were for the optima: before the nonlinearity, or after it. Raises BadInput for contrasts
    that are not positive; Failure where the record is of another network.
    """
    import pandas

    if not contrasts or min(contrasts) <= 0:
        raise BadInput(f"contrasts were {tuple(contrasts)}; expected root mean squares above 0, such as 0.2.")
    bench = Bench.of(network, optima, record, originals, natural=natural, noise=noise, seed=seed)
    if record is not None:
        refuse_foreign(record.path, {"name": network.name, **bench.search.subject.identity})
    rows = []
    for number, optimum in enumerate(optima):
        rows += bench.rows(optimum, contrasts)
        if progress is not None:
            progress(number + 1, len(optima))
    table = pandas.DataFrame(rows)
    return table.astype({"natural_n": "int64", "beats_natural": "boolean"}) if len(table) else table


@dataclass(frozen=True, eq=False)
class Rival:
    """A kind of stimuli and their pictures, whitened, on the box that is heard."""

    kind: str
    pictures: Float[Tensor, "stimulus color height width"]


@dataclass(eq=False)
class Bench:
    """What is the same for all optima that are scored together."""

    search: Search
    record: Record | None
    given: Originals | None
    pole: str
    natural: int
    noise: int
    _mean: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        network: Network,
        optima: Optima,
        record: Record | None,
        originals: Originals | None,
        *,
        natural: int,
        noise: int,
        seed: int,
    ) -> Bench:
        after = optima.facts["reads"].startswith("after")
        pole = optima.facts["pole"]
        sign = 1.0 if pole == "preferred" else -1.0
        search = Search(subject_of(network), kobayashi2020(), sign, 1, seed, after, False, None)
        return cls(search, record, originals, pole, natural, noise)

    @cached_property
    def originals(self) -> Originals | None:
        """The record's photographs, or None where they are no longer where they were."""
        if self.given is not None or self.record is None:
            return self.given
        try:
            return originals_of(self.record, keep=64)
        except UnitscopeError:
            return None

    @torch.inference_mode(False)
    def rows(self, optimum: Optimum, contrasts: Sequence[float]) -> list[dict[str, Any]]:
        objective = Objective.parse(optimum.objective)
        for term in objective.terms:
            check(term, self.search.subject.sites)
        job = self.search.job(objective)
        hear, scene = self.hearing(job), scene_of(self.search.subject.network, [job])
        rivals, why = self.rivals(objective, job, hear, scene)
        rows = []
        for seed in range(len(optimum.whitened)):
            own = torch.from_numpy(placed(optimum.whitened[[seed]], job.box, job.preparation.box)).to(scene.mean)
            for contrast in contrasts:
                found = self.answers(own, rivals, hear, scene, contrast, stride=self.stride(objective))
                ahead = self.search.sign * (found["response"] - found["natural"])
                rows.append(
                    {
                        "objective": optimum.objective, "site": optimum.site, "channel": optimum.channel, "seed": seed,
                        "contrast": contrast, **found, "beats_natural": None if np.isnan(ahead) else bool(ahead > 0),
                        "why": why,
                    }
                )  # fmt: skip
        return rows

    def hearing(self, job: Job) -> Callable[[Tensor], Tensor]:
        """What answers any number of pictures."""
        device, terms = self.search.subject.network.device, job.objective.terms
        channels = torch.tensor([[term.unit.channel for term in terms]], device=device)
        weights = torch.tensor([[term.weight for term in terms]], device=device)
        most = fitting(job.preparation)

        def hear(x: Tensor) -> Tensor:
            parts = [
                job.preparation.hear(part, channels.expand(len(part), -1), weights.expand(len(part), -1))
                for part in x.split(most)
            ]
            return torch.cat(parts)

        return hear

    def stride(self, objective: Objective) -> tuple[int, int]:
        """By how much an optimum is moved: one step of the lattice."""
        term = objective.terms[0].unit
        down, along = self.search.subject.sites[term.site].field(channel=term.channel).stride
        return max(int(down), 1), max(int(along), 1)

    def answers(
        self,
        own: Tensor,
        rivals: Sequence[Rival],
        hear: Callable[[Tensor], Tensor],
        scene: Scene,
        contrast: float,
        *,
        stride: tuple[int, int],
    ) -> dict[str, Any]:
        """Responses at one contrast."""
        canvas = Contrast(contrast, exactly=True)

        def at_contrast(whitened: Tensor) -> Tensor:
            away = (scene.color(whitened) - canvas.middle(scene)) * scene.inside
            return canvas.whitened(canvas.project(away, scene), scene) * scene.inside

        normed = at_contrast(own)
        groups = {"response": normed, "shifted": moved(normed, stride) * scene.inside}
        groups |= {rival.kind: at_contrast(rival.pictures) for rival in rivals}
        groups["blank"] = torch.zeros_like(normed)
        with torch.no_grad():
            heard = hear(torch.cat(list(groups.values()))).double().cpu().numpy() / 1.0
        parts = np.split(heard, np.cumsum([len(pictures) for pictures in groups.values()])[:-1])
        found = dict(zip(groups, parts, strict=True))
        best = found.get("natural", np.zeros(0)) * self.search.sign
        return {
            "response": found["response"][0],
            "natural": self.search.sign * best.max() if len(best) else np.nan,
            "natural_n": len(best),
            **{kind: found[kind].mean() if kind in found else np.nan for kind in ("mean_stimulus", "noise", "exact")},
            **{kind: found[kind].mean() for kind in ("blank", "shifted")},
            "clipped": clipped(normed, scene),
        }

    def rivals(
        self, objective: Objective, job: Job, hear: Callable[[Tensor], Tensor], scene: Scene
    ) -> tuple[list[Rival], str]:
        """What the optimum is held against, and what is missing."""
        names = [f"{self.search.seed}/noise", str(objective)]
        generators = [generator_of(self.search.seed, "/".join(names), number) for number in range(self.noise)]
        shape = scene.shape[1:]
        drawn = [torch.randn(shape, generator=generator) for generator in generators]
        found = [Rival("noise", torch.stack(drawn).to(scene.mean))] if drawn else []
        linear = linear_optimum(hear, scene, sign=self.search.sign)
        if linear is not None:
            found.append(Rival("exact", linear))
        missing = []
        for kind, made in (("natural", self.natural_pictures), ("mean_stimulus", self.mean_pictures)):
            try:
                found.append(Rival(kind, made(objective, job, scene)))
            except UnitscopeError as error:
                missing.append(str(error))
        return found, "; ".join(missing)

    def natural_pictures(self, objective: Objective, job: Job, scene: Scene) -> Tensor:
        """The record's first stimuli, moved so that the neuron sees what the one that preferred it saw; for several
        positions the whole photographs.
        """
        rows = self.known(objective).stimuli(objective.terms[0].unit, pole=self.pole)
        if self.originals is None:
            raise BadInput("the record's images are no longer where they were")
        rows = rows.sort_values("rank").head(self.natural)
        term = objective.terms[0]
        places = positions(term, self.search.subject.sites[term.unit.site])
        pictures = []
        for row in rows.itertuples():
            try:
                shown = self.originals.shown(int(row.image))
            except Unreadable:
                continue
            seen = Box(int(row.top), int(row.left), int(row.bottom), int(row.right))
            shift = (0, 0) if isinstance(places, str) or len(places) > 1 else self.displacement(term, places[0], seen)
            pictures.append(laid(shown, job.preparation.box, shift, scene))
        if not pictures:
            raise BadInput(f"the record holds no {self.pole} stimulus of {term.unit} that can be read")
        return torch.stack(pictures)

    def displacement(self, term: Any, place: tuple[int, int], seen: Box) -> tuple[int, int]:
        """From the field of the neuron that preferred a stimulus to that of the neuron which is asked."""
        own = self.search.subject.sites[term.unit.site].box(*place, term.unit.channel)
        return (own.top + own.bottom - seen.top - seen.bottom) // 2, (
            own.left + own.right - seen.left - seen.right
        ) // 2

    def known(self, objective: Objective) -> Record:
        if self.record is None:
            raise BadInput("there is no record to take natural stimuli from")
        if len(objective.terms) > 1:
            raise BadInput("natural stimuli are kept for single units")
        if objective.terms[0].unit.site not in self.record.sites:
            raise BadInput(f"the record holds no stimuli of {objective.terms[0].unit.site}")
        return self.record

    def mean_pictures(self, objective: Objective, job: Job, scene: Scene) -> Tensor:
        """The mean preferred stimulus of the center neuron, less the mean of those of all units of its site."""
        record, term = self.known(objective), objective.terms[0]
        if self.pole != "preferred" or term.at not in ("center", "all"):
            raise BadInput("mean stimuli are kept for the preferred pole of center neurons")
        if term.unit.site not in self._mean:
            self._mean[term.unit.site] = mean_stimuli(record, term.unit.site)
        delta, box = self._mean[term.unit.site](term.unit.channel)
        target = job.preparation.box
        x = torch.zeros((1, *scene.shape[1:]), device=scene.mean.device)
        part = torch.from_numpy(delta).to(scene.mean)[None]
        common = Box(
            max(box.top, target.top), max(box.left, target.left), min(box.bottom, target.bottom),
            min(box.right, target.right),
        )  # fmt: skip
        x[
            :,
            :,
            common.top - target.top : common.bottom - target.top,
            common.left - target.left : common.right - target.left,
        ] = part[:, :, common.top - box.top : common.bottom - box.top, common.left - box.left : common.right - box.left]
        return (x.flip(1) if scene.bgr else x) / scene.std


def mean_stimuli(record: Record, name: str) -> Callable[[int], tuple[Float[np.ndarray, "color height width"], Box]]:
    """For each channel of a site its mean preferred stimulus, at the network's resolution, less the mean of all."""
    site = record.sites[name]
    units = slice(site.first_unit, site.first_unit + site.channels)
    try:
        arrays = [
            np.asarray(record.array(f"mean_stimulus_center{part}")[units]) for part in ("", "_n", "_size", "_box")
        ]
    except (UnknownName, FileNotFoundError):
        raise BadInput("the record holds no mean stimuli") from None
    means, n, size, boxes = arrays

    def of(channel: int) -> tuple[np.ndarray, Box]:
        alike = (n > 0) & (boxes == boxes[channel]).all(1)
        if not n[channel] or alike.sum() < 2:
            raise BadInput("it has no mean stimulus that could be told from those of other units")
        height, width = map(int, size[channel])
        every = means[alike][:, :, :height, :width].astype(np.float64)
        delta = means[channel, :, :height, :width] - np.average(every, axis=0, weights=n[alike])
        box = Box(*map(int, boxes[channel]))
        grown = torch.nn.functional.interpolate(
            torch.from_numpy(delta).float()[None], (box.height, box.width), mode="bilinear", align_corners=False
        )
        return grown[0].numpy(), box

    return of


def laid(shown: np.ndarray, box: Box, shift: tuple[int, int], scene: Scene) -> Float[Tensor, "color height width"]:
    """The part `box` of a photograph [height width color] that was moved by `shift`, whitened; the mean color beyond
    it. For networks of one input channel in gray, as a survey shows it.
    """
    levels = torch.from_numpy(shown).permute(2, 0, 1)[None]
    if scene.shape[1] == 1 and levels.shape[1] == 3:
        levels = luma(levels)
    picture = levels.float().to(scene.mean.device) / 255
    whitened = scene.whiten(picture)
    down, along = shift
    source = box.shift(-down, -along)
    seen = source.clip((shown.shape[0], shown.shape[1]))
    x = torch.zeros(scene.shape[1:], device=scene.mean.device)
    if seen.height > 0 and seen.width > 0:
        x[:, seen.top - source.top : seen.bottom - source.top, seen.left - source.left : seen.right - source.left] = (
            whitened[0, :, seen.top : seen.bottom, seen.left : seen.right]
        )
    return x


def moved(picture: Float[Tensor, "1 color height width"], stride: tuple[int, int]) -> Tensor:
    """A picture moved by a stride in eight directions; the mean color comes in."""
    down, along = stride
    shifts = [(y, x) for y in (-down, 0, down) for x in (-along, 0, along) if (y, x) != (0, 0)]
    pads = torch.nn.functional.pad(picture, (along, along, down, down))
    height, width = picture.shape[2:]
    return torch.cat([pads[:, :, down + y : down + y + height, along + x : along + x + width] for y, x in shifts])


def clipped(whitened: Float[Tensor, "1 color height width"], scene: Scene) -> float:
    """The share of the numbers that the neuron sees which are at a bound of 0..1."""
    color = scene.color(whitened)
    at = ((color <= 1e-6) | (color >= 1 - 1e-6)) & scene.inside
    return float(at.sum()) / float(scene.inside.sum() * color.shape[1])


def linear_optimum(
    hear: Callable[[Tensor], Tensor], scene: Scene, *, sign: float
) -> Float[Tensor, "1 color height width"] | None:
    """The direction of the exact optimum, whitened, where the response is linear in the picture; else None."""
    generator = torch.Generator().manual_seed(0)
    zero = torch.zeros((1, *scene.shape[1:]), device=scene.mean.device, requires_grad=True)
    with torch.enable_grad():
        at_zero = hear(zero)
        try:
            weights = gradient_of(at_zero, zero)
        except NoGradient:
            return None
    probe = torch.randn(2, *zero.shape[1:], generator=generator).to(scene.mean) * scene.inside
    with torch.no_grad():
        expected = at_zero.detach() + (weights * probe).sum((1, 2, 3))
        if not torch.allclose(hear(probe), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())):
            return None
    return sign * weights / scene.std**2
