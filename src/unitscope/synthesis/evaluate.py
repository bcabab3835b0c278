"""How good optimal stimuli are: what their neurons answer to them and to controls of the same norm (methods 3.5).

The problem: most responses grow with contrast, so that a search that is free to raise contrast beats any photograph.

The idea: the optimum and all controls are brought to the same root mean square contrast around the mean color, within
0..1, on the pixels that the neuron sees (the canvas `Contrast`, with `exactly`). Then a larger response is one to the
pattern. Controls are the best natural patches of a record, its mean preferred stimulus, noise, the optimum moved by one
step of the lattice, and the exact optimum where the response is linear in the picture:

    r(x) = w . x + b   is largest at norm rho for   x = rho w / |w|

which then shows how much of what is possible the search has found.
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
from unitscope.optima import Optima, Optimum, paste_pictures, refuse_foreign
from unitscope.record import Record
from unitscope.recording.batches import luma
from unitscope.recording.source_images import Originals, originals_of
from unitscope.stimuli.items import Unreadable
from unitscope.synthesis.canvases import Contrast, Scene
from unitscope.synthesis.network_cache import cache_of
from unitscope.synthesis.objectives import Objective, check_term, positions_of
from unitscope.synthesis.optimize import (
    Job,
    NoGradient,
    Progress,
    Search,
    batch_capacity,
    generator_of,
    gradient_of,
    scene_of,
)
from unitscope.synthesis.recipes import kobayashi2020
from unitscope.vocabulary import Box

if TYPE_CHECKING:
    import pandas

CONTRASTS = (0.2,)
"""Root mean square contrasts (of RGB in 0..1) at which optima are scored unless others are asked for."""

NATURAL, NOISE = 9, 8
"""How many natural patches and pictures of noise each optimum is compared with."""


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
    """The responses to optima and to controls, all at the same norm: a row per objective, seed and contrast.

    Columns: `objective`, `site`, `channel`, `seed`, `contrast`; `response` to the optimum; `natural`, the strongest
    response to the record's first `natural` stimuli of this pole, and `natural_n`, how many there were;
    `mean_stimulus`, to the mean preferred stimulus less that of the site's other units; `noise`, the mean response to
    `noise` pictures of Gaussian noise; `exact`, to the best picture there is, where the response is linear in it;
    `blank`, to the mean color; `shifted`, the mean response to the optimum moved by the site's stride in eight
    directions; `clipped`, the share of the optimum's numbers at the bounds of 0..1; `beats_natural`, whether the
    response to the optimum is beyond that to the best natural stimulus; `why` says what is missing. What is not known
    is null. Responses are read as they were for the optima: before the nonlinearity, or after it.

    Args:
        network: the network of the optima.
        optima: what is scored.
        record: a record of the network, from which natural stimuli come.
        contrasts: root mean squares of RGB in 0..1, above 0.
        natural: at most so many natural stimuli for each optimum.
        noise: so many pictures of noise for each optimum.
        seed: from which the noise is drawn.
        originals: the record's photographs, where they are at hand.
        progress: called as progress(done, all).

    Raises:
        BadInput: a contrast is not positive.
        Failure: the record is of another network.

    Example:
        >>> optima = unitscope.maximize(network, "maxpool:1", recipe="zipser2015")
        >>> table = unitscope.score(network, optima, record=record)
        >>> table[["objective", "seed", "natural_n"]]
           objective  seed  natural_n
        0  maxpool:1     0          4
    """
    import pandas

    if not contrasts or min(contrasts) <= 0:
        raise BadInput(f"contrasts were {tuple(contrasts)}; expected root mean squares above 0, such as 0.2.")
    scorer = Scorer.of(network, optima, record, originals, natural=natural, noise=noise, seed=seed)
    if record is not None:
        refuse_foreign(record.path, {"name": network.name, **scorer.search.cache.identity})
    rows = []
    for number, optimum in enumerate(optima):
        rows += scorer.rows(optimum, contrasts)
        if progress is not None:
            progress(number + 1, len(optima))
    table = pandas.DataFrame(rows)
    return table.astype({"natural_n": "int64", "beats_natural": "boolean"}) if len(table) else table


@dataclass(frozen=True, eq=False)
class Control:
    """Stimuli of one kind that an optimum is compared with: whitened pictures of the evaluator's box."""

    kind: str
    pictures: Float[Tensor, "stimulus color height width"]


@dataclass(eq=False)
class Scorer:
    """What is the same for all optima that are scored together.

    `given` are the record's photographs where the caller has them; `_mean` keeps the mean stimuli of sites.
    """

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
    ) -> Scorer:
        post_activation = optima.facts["reads"].startswith("after")
        pole = optima.facts["pole"]
        sign = 1.0 if pole == "preferred" else -1.0
        # This search never runs: it makes the evaluators that a search with these settings would have.
        search = Search(cache_of(network), kobayashi2020(), sign, 1, seed, post_activation, False, None)
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
        """A row of scores per seed and contrast."""
        objective = Objective.parse(optimum.objective)
        for term in objective.terms:
            check_term(term, self.search.cache.sites)
        job = self.search.make_job(objective)
        respond, scene = self.response_function(job), scene_of(self.search.cache.network, [job])
        controls, why = self.controls(objective, job, respond, scene)
        rows = []
        for seed in range(len(optimum.whitened)):
            own = torch.from_numpy(paste_pictures(optimum.whitened[[seed]], job.box, job.evaluator.box)).to(scene.mean)
            for contrast in contrasts:
                found = self.responses_at(own, controls, respond, scene, contrast, stride=self.stride(objective))
                # For the antipreferred pole, lower is better.
                ahead = self.search.sign * (found["response"] - found["natural"])
                rows.append(
                    {
                        "objective": optimum.objective, "site": optimum.site, "channel": optimum.channel, "seed": seed,
                        "contrast": contrast, **found, "beats_natural": None if np.isnan(ahead) else bool(ahead > 0),
                        "why": why,
                    }
                )  # fmt: skip
        return rows

    def response_function(self, job: Job) -> Callable[[Tensor], Tensor]:
        """The response to any number of pictures, which goes through the network in parts that memory holds."""
        device, terms = self.search.cache.network.device, job.objective.terms
        channels = torch.tensor([[term.unit.channel for term in terms]], device=device)
        weights = torch.tensor([[term.weight for term in terms]], device=device)
        most = batch_capacity(job.evaluator)

        def respond(x: Tensor) -> Tensor:
            parts = [
                job.evaluator.evaluate(part, channels.expand(len(part), -1), weights.expand(len(part), -1))
                for part in x.split(most)
            ]
            return torch.cat(parts)

        return respond

    def stride(self, objective: Objective) -> tuple[int, int]:
        """By how much an optimum is moved: one step of the lattice."""
        term = objective.terms[0].unit
        down, along = self.search.cache.sites[term.site].field(channel=term.channel).stride
        return max(int(down), 1), max(int(along), 1)

    def responses_at(
        self,
        own: Tensor,
        controls: Sequence[Control],
        respond: Callable[[Tensor], Tensor],
        scene: Scene,
        contrast: float,
        *,
        stride: tuple[int, int],
    ) -> dict[str, Any]:
        """Responses to the optimum and to the controls at one contrast, by column of the table."""
        canvas = Contrast(contrast, exactly=True)

        def at_contrast(whitened: Tensor) -> Tensor:
            # Only pixels that the neuron sees take part in the norm.
            away = (scene.color(whitened) - canvas.middle(scene)) * scene.inside
            return canvas.whitened(canvas.project(away, scene), scene) * scene.inside

        normed = at_contrast(own)
        groups = {"response": normed, "shifted": shift_eight_ways(normed, stride) * scene.inside}
        groups |= {control.kind: at_contrast(control.pictures) for control in controls}
        # Whitened, 0 is the mean color.
        groups["blank"] = torch.zeros_like(normed)
        with torch.no_grad():
            responses = respond(torch.cat(list(groups.values()))).double().cpu().numpy()
        parts = np.split(responses, np.cumsum([len(pictures) for pictures in groups.values()])[:-1])
        found = dict(zip(groups, parts, strict=True))
        best = found.get("natural", np.zeros(0)) * self.search.sign
        return {
            "response": found["response"][0],
            "natural": self.search.sign * best.max() if len(best) else np.nan,
            "natural_n": len(best),
            **{kind: found[kind].mean() if kind in found else np.nan for kind in ("mean_stimulus", "noise", "exact")},
            **{kind: found[kind].mean() for kind in ("blank", "shifted")},
            "clipped": clipped_share(normed, scene),
        }

    def controls(
        self, objective: Objective, job: Job, respond: Callable[[Tensor], Tensor], scene: Scene
    ) -> tuple[list[Control], str]:
        """The stimuli that an optimum is compared with, and in words what is missing."""
        names = [f"{self.search.seed}/noise", str(objective)]
        generators = [generator_of(self.search.seed, "/".join(names), number) for number in range(self.noise)]
        shape = scene.shape[1:]
        noise = [torch.randn(shape, generator=generator) for generator in generators]
        found = [Control("noise", torch.stack(noise).to(scene.mean))] if noise else []
        linear = linear_optimum(respond, scene, sign=self.search.sign)
        if linear is not None:
            found.append(Control("exact", linear))
        missing = []
        for kind, make in (("natural", self.natural_stimuli), ("mean_stimulus", self.mean_stimulus)):
            try:
                found.append(Control(kind, make(objective, job, scene)))
            except UnitscopeError as error:
                missing.append(str(error))
        return found, "; ".join(missing)

    def natural_stimuli(self, objective: Objective, job: Job, scene: Scene) -> Tensor:
        """The record's first stimuli, moved so that the neuron sees what the one that preferred it saw; for several
        positions the whole photographs.
        """
        rows = self.record_of(objective).stimuli(objective.terms[0].unit, pole=self.pole)
        if self.originals is None:
            raise BadInput("the record's images are no longer where they were")
        rows = rows.sort_values("rank").head(self.natural)
        term = objective.terms[0]
        places = positions_of(term, self.search.cache.sites[term.unit.site])
        pictures = []
        for row in rows.itertuples():
            try:
                shown = self.originals.shown(int(row.image))
            except Unreadable:
                continue
            seen = Box(int(row.top), int(row.left), int(row.bottom), int(row.right))
            shift = (0, 0) if isinstance(places, str) or len(places) > 1 else self.displacement(term, places[0], seen)
            pictures.append(cut_photograph(shown, job.evaluator.box, shift, scene))
        if not pictures:
            raise BadInput(f"the record holds no {self.pole} stimulus of {term.unit} that can be read")
        return torch.stack(pictures)

    def displacement(self, term: Any, place: tuple[int, int], seen: Box) -> tuple[int, int]:
        """From the field of the neuron that preferred a stimulus to that of the neuron which is asked."""
        own = self.search.cache.sites[term.unit.site].box(*place, term.unit.channel)
        return (own.top + own.bottom - seen.top - seen.bottom) // 2, (
            own.left + own.right - seen.left - seen.right
        ) // 2

    def record_of(self, objective: Objective) -> Record:
        """The record, where it has natural stimuli of an objective. Raises BadInput."""
        if self.record is None:
            raise BadInput("there is no record to take natural stimuli from")
        if len(objective.terms) > 1:
            raise BadInput("natural stimuli are kept for single units")
        if objective.terms[0].unit.site not in self.record.sites:
            raise BadInput(f"the record holds no stimuli of {objective.terms[0].unit.site}")
        return self.record

    def mean_stimulus(self, objective: Objective, job: Job, scene: Scene) -> Tensor:
        """The mean preferred stimulus of the center neuron, less the mean of those of all units of its site."""
        record, term = self.record_of(objective), objective.terms[0]
        if self.pole != "preferred" or term.at not in ("center", "all"):
            raise BadInput("mean stimuli are kept for the preferred pole of center neurons")
        if term.unit.site not in self._mean:
            self._mean[term.unit.site] = mean_stimuli(record, term.unit.site)
        delta, box = self._mean[term.unit.site](term.unit.channel)
        target = job.evaluator.box
        x = torch.from_numpy(paste_pictures(delta[None], box, target)).to(scene.mean)
        # A difference of pictures, in which the mean color is gone already.
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
    means, counts, size, boxes = arrays

    def of(channel: int) -> tuple[np.ndarray, Box]:
        # Mean stimuli are compared pixel by pixel, so that only those of the same part of the picture can be.
        alike = (counts > 0) & (boxes == boxes[channel]).all(1)
        if not counts[channel] or alike.sum() < 2:
            raise BadInput("it has no mean stimulus that could be told from those of other units")
        height, width = map(int, size[channel])
        every = means[alike][:, :, :height, :width].astype(np.float64)
        delta = means[channel, :, :height, :width] - np.average(every, axis=0, weights=counts[alike])
        box = Box(*map(int, boxes[channel]))
        resized = torch.nn.functional.interpolate(
            torch.from_numpy(delta).float()[None], (box.height, box.width), mode="bilinear", align_corners=False
        )
        return resized[0].numpy(), box

    return of


def cut_photograph(
    shown: np.ndarray, box: Box, shift: tuple[int, int], scene: Scene
) -> Float[Tensor, "color height width"]:
    """The part `box` of a photograph [height width color] that is moved by `shift`, whitened; the mean color beyond
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
        x[:, *seen.slices(source)] = whitened[0, :, seen.top : seen.bottom, seen.left : seen.right]
    return x


def shift_eight_ways(picture: Float[Tensor, "1 color height width"], stride: tuple[int, int]) -> Tensor:
    """A picture moved by a stride in eight directions; the mean color comes in."""
    down, along = stride
    shifts = [(y, x) for y in (-down, 0, down) for x in (-along, 0, along) if (y, x) != (0, 0)]
    pads = torch.nn.functional.pad(picture, (along, along, down, down))
    height, width = picture.shape[2:]
    return torch.cat([pads[:, :, down + y : down + y + height, along + x : along + x + width] for y, x in shifts])


def clipped_share(whitened: Float[Tensor, "1 color height width"], scene: Scene) -> float:
    """The share of the numbers that the neuron sees which are at a bound of 0..1."""
    color = scene.color(whitened)
    # Whitened and back, a bound may be missed by a rounding.
    at = ((color <= 1e-6) | (color >= 1 - 1e-6)) & scene.inside
    return float(at.sum()) / float(scene.inside.sum() * color.shape[1])


def linear_optimum(
    respond: Callable[[Tensor], Tensor], scene: Scene, *, sign: float
) -> Float[Tensor, "1 color height width"] | None:
    """The direction of the exact optimum, whitened, where the response is linear in the picture; else None.

    Of RGB the optimum is along w_rgb = w / std, since whitened x = (RGB - mean) / std; whitened again it is w / std^2.
    """
    generator = torch.Generator().manual_seed(0)
    zero = torch.zeros((1, *scene.shape[1:]), device=scene.mean.device, requires_grad=True)
    with torch.enable_grad():
        at_zero = respond(zero)
        try:
            weights = gradient_of(at_zero, zero)
        except NoGradient:
            return None
    # A response that is not linear would have to agree on two pictures of noise by chance.
    probe = torch.randn(2, *zero.shape[1:], generator=generator).to(scene.mean) * scene.inside
    with torch.no_grad():
        expected = at_zero.detach() + (weights * probe).sum((1, 2, 3))
        if not torch.allclose(respond(probe), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())):
            return None
    return sign * weights / scene.std**2
