"""Searches: objectives that share a batch climb together, each by itself, on the part of the picture that they see."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unitscope.anatomy.listening import listening
from unitscope.errors import BadInput
from unitscope.networks import Network
from unitscope.optima import Light, Optimum
from unitscope.pristine import keep_pristine
from unitscope.synthesis.canvases import Scene
from unitscope.synthesis.evaluators import Preparation, Subject, prepare
from unitscope.synthesis.objectives import Objective, positions
from unitscope.synthesis.recipes import Recipe
from unitscope.vocabulary import Box, Site, Size

MEMORY = 1 << 29
"""Bytes that the values of one batch may take."""

MOST = 128
"""No more pictures than this are in one batch."""

Progress = Callable[[int, int], None]
"""Told the number of optimal stimuli found so far, and of all."""


@dataclass(frozen=True)
class Job:
    """One objective with how it is heard, the box of its picture, and the part of it that may be used."""

    objective: Objective
    preparation: Preparation
    box: Box
    inside: Box


@dataclass(frozen=True)
class Search:
    """What is the same for all objectives of one call."""

    subject: Subject
    recipe: Recipe
    sign: float
    seeds: int
    seed: int
    after: bool
    bf16: bool
    batch: int | None

    def through(self, objectives: Sequence[Objective], progress: Progress | None) -> Iterator[list[Optimum]]:
        """Optima in batches of one site each, in the order of the objectives as far as batches allow."""
        done, total = 0, len(objectives) * self.seeds
        groups: dict[object, list[Job]] = {}
        for objective in objectives:
            job = self.job(objective)
            groups.setdefault((job.preparation.key, job.objective.terms[0].unit.site), []).append(job)
        for jobs in groups.values():
            most = max(1, (self.batch or fitting(jobs[0].preparation)) // self.seeds)
            for first in range(0, len(jobs), most):
                part = jobs[first : first + most]
                yield self.found(part)
                done += len(part) * self.seeds
                if progress is not None:
                    progress(done, total)

    @torch.inference_mode(False)
    def job(self, objective: Objective) -> Job:
        preparation = prepare(self.subject, objective, after=self.after, half=self.bf16)
        picture = self.subject.network.size
        box, inside = (hull_of_fields(objective, self.subject.sites, picture, own=own) for own in (False, True))
        return Job(objective, preparation, box, inside.clip(picture))

    @torch.inference_mode(False)
    def found(self, jobs: Sequence[Job]) -> list[Optimum]:
        """The optima of objectives that share a batch, all seeds."""
        items = [(job, number) for job in jobs for number in range(self.seeds)]
        rows = self.batch or fitting(jobs[0].preparation)
        parts = [self.ascended(items[n : n + rows]) for n in range(0, len(items), rows)]
        steps = max(part.history.shape[1] for part in parts)
        whitened = np.concatenate([part.whitened for part in parts])
        history = np.concatenate(
            [np.pad(p.history, ((0, 0), (0, steps - p.history.shape[1])), constant_values=np.nan) for p in parts]
        )
        responses, moved = (np.concatenate([getattr(p, n) for p in parts]) for n in ("responses", "moved"))
        found = []
        for n, job in enumerate(jobs):
            mine = slice(n * self.seeds, (n + 1) * self.seeds)
            found.append(self.optimum(job, whitened[mine], responses[mine], history[mine], moved[mine]))
        return found

    def optimum(self, job: Job, whitened: Any, responses: Any, history: Any, moved: Any) -> Optimum:
        network, preparation = self.subject.network, job.preparation
        ended = ~np.isnan(history).all(0)
        way = preparation.way + (f" ({preparation.why})" if preparation.why else "")
        return Optimum(
            objective=str(job.objective),
            site=job.objective.terms[0].unit.site,
            channel=job.objective.terms[0].unit.channel,
            box=job.box,
            whitened=placed(whitened, preparation.box, job.box),
            responses=responses,
            history=history[:, ended],
            moved=moved,
            light=Light(network.mean, network.std, network.order == "BGR"),
            reason="" if moved.all() else self.dead(),
            way=way,
        )

    def dead(self) -> str:
        where = "after the nonlinearity, which lets no gradient through" if self.after else "at the start"
        return f"the gradient was 0 {where}, and the picture could not move"

    @torch.enable_grad()
    def ascended(self, items: Sequence[tuple[Job, int]]) -> Ascended:
        jobs = [job for job, _ in items]
        device = self.subject.network.device
        terms = [job.objective.terms for job in jobs]
        channels = torch.tensor([[term.unit.channel for term in each] for each in terms], device=device)
        weights = torch.tensor([[term.weight for term in each] for each in terms], device=device)
        preparation = jobs[0].preparation
        generators = [generator_of(self.seed, str(job.objective), number) for job, number in items]

        precise = prepare(self.subject, jobs[0].objective, after=self.after, half=False) if self.bf16 else preparation

        def exact(x: Tensor) -> Tensor:
            return precise.hear(x, channels, weights)

        hear, scene = preparation.ear(channels, weights), scene_of(self.subject.network, jobs)
        try:
            return ascend(hear, scene, self.recipe, generators, sign=self.sign, exact=exact)
        except NoGradient as reason:
            raise BadInput(self.no_gradient(jobs[0], str(reason))) from reason

    def no_gradient(self, job: Job, reason: str) -> str:
        """The story of an objective that no gradient leads to."""
        end = ending(self.subject)
        return (
            f"{job.objective} of {self.subject.network.name} cannot be maximized: there is no gradient from it to the "
            f"picture ({reason}). {end or 'It may not depend on the picture.'} Choose a site before that."
        )


def fitting(preparation: Preparation) -> int:
    """How many pictures fit into memory together: values, their gradients, and as much again."""
    return max(1, min(MOST, MEMORY // (12 * max(1, preparation.numbers))))


def generator_of(seed: int, objective: str, number: int) -> torch.Generator:
    """The chance of one search: from the seed, the objective's name and the number of the search alone."""
    digest = hashlib.sha256(f"{seed}/{objective}/{number}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def hull_of_fields(objective: Objective, sites: dict[str, Site], picture: Size, *, own: bool) -> Box:
    """The box that an objective looks at: with `own` exactly its channels', on the picture; else that of all channels
    of its sites, hanging over the picture's edge, or the picture where a field is larger than that.
    """
    boxes = []
    for term in objective.terms:
        site = sites[term.unit.site]
        places = positions(term, site)
        if isinstance(places, str):
            places = ((0, 0), (site.lattice[0] - 1, site.lattice[1] - 1)) if own else ()
            boxes += [] if own else [Box(0, 0, *picture)]
        for row, col in places:
            if own:
                boxes.append(site.box(row, col, term.unit.channel).clip(picture))
            else:
                boxes += [f.box(row, col) if f.status == "exact" else Box(0, 0, *picture) for f in site.fields]
    top, left = (min(box[axis] for box in boxes) for axis in (0, 1))
    bottom, right = (max(box[axis] for box in boxes) for axis in (2, 3))
    if bottom - top > picture[0]:
        top, bottom = 0, picture[0]
    if right - left > picture[1]:
        left, right = 0, picture[1]
    return Box(top, left, bottom, right)


def placed(
    whitened: Float[np.ndarray, "seed color height width"], seen: Box, box: Box
) -> Float[np.ndarray, "seed color rows cols"]:
    """Pictures of the box `seen` as pictures of `box`; 0, the mean color, where they say nothing."""
    if seen == box:
        return whitened
    found = np.zeros((*whitened.shape[:2], box.height, box.width), np.float32)
    top, left = max(seen.top, box.top), max(seen.left, box.left)
    bottom, right = min(seen.bottom, box.bottom), min(seen.right, box.right)
    found[:, :, top - box.top : bottom - box.top, left - box.left : right - box.left] = whitened[
        :, :, top - seen.top : bottom - seen.top, left - seen.left : right - seen.left
    ]
    return found


def scene_of(network: Network, jobs: Sequence[Job]) -> Scene:
    boxes = tuple(job.preparation.box for job in jobs)
    device = network.device
    mean, std = (
        torch.tensor(n, device=device, dtype=torch.float32).view(1, -1, 1, 1) for n in (network.mean, network.std)
    )
    inside = torch.zeros((len(jobs), 1, boxes[0].height, boxes[0].width), dtype=torch.bool)
    for n, (job, box) in enumerate(zip(jobs, boxes, strict=True)):
        i = job.inside
        inside[n, :, max(i.top - box.top, 0) : i.bottom - box.top, max(i.left - box.left, 0) : i.right - box.left] = (
            True
        )
    return Scene(boxes, mean, std, network.size, network.order == "BGR", inside.to(device))


@dataclass(frozen=True)
class Ascended:
    """What came of a batch of searches."""

    whitened: Float[np.ndarray, "stimulus color height width"]
    responses: Float[np.ndarray, " stimulus"]
    history: Float[np.ndarray, "stimulus step"]
    moved: Bool[np.ndarray, " stimulus"]


Hear = Callable[[Tensor], Tensor]


def ascend(
    hear: Hear, scene: Scene, recipe: Recipe, generators: Sequence[torch.Generator], *, sign: float, exact: Hear
) -> Ascended:
    """Climb: look, take the gradient, step, stay within bounds; every picture by itself."""
    canvas, ascent = recipe.canvas, recipe.ascent
    entire = bool(scene.inside.all())
    start = recipe.start(scene, generators)
    parameters = canvas.project(canvas.begin(start if entire else start * scene.inside, scene), scene).detach()
    state = ascent.begin(parameters)
    responses: list[Tensor] = []
    alive = torch.zeros(len(start), dtype=torch.bool, device=start.device)
    done = torch.zeros_like(alive)
    best = Best.of(parameters) if recipe.keep_best else None
    for number in range(ascent.steps):
        parameters.requires_grad_(True)
        x = canvas.whitened(parameters, scene)
        if number == 0 and tuple(x.shape) != scene.shape:
            raise BadInput(_ill_fitting(recipe, x, scene))
        x = x if entire else x * scene.inside
        for jitter in recipe.jitters:
            x = jitter(x, generators)
        response = sign * hear(x)
        raised = response - sum(penalty(x) for penalty in recipe.penalties) if recipe.penalties else response
        gradient = gradient_of(raised, parameters)
        parameters = parameters.detach()
        responses.append(response.detach())
        if not bool(alive.all()):
            alive |= gradient.flatten(1).any(1)
        if best is not None:
            best.update(responses[-1], parameters)
        stable = ascent.stable(responses)
        if stable is not None:
            done |= stable
            if bool(done.all()):
                break
        new = canvas.project(ascent.step(parameters, gradient, state, number), scene).detach()
        parameters = torch.where(done.view(-1, *[1] * (new.ndim - 1)), parameters, new) if bool(done.any()) else new
    return finished(hear, scene, recipe, parameters, responses, alive, best, sign=sign, exact=exact)


class NoGradient(Exception):
    """What is to be raised has no gradient with respect to the picture; the message says what torch says."""


def gradient_of(raised: Tensor, parameters: Tensor) -> Tensor:
    """The gradient of the sum of responses. Raises NoGradient."""
    if not raised.requires_grad:
        raise NoGradient("the response has none")
    try:
        (gradient,) = torch.autograd.grad(raised.sum(), parameters, allow_unused=True)
    except RuntimeError as error:
        raise NoGradient(str(error).strip().split("\n")[0][:160]) from error
    if gradient is None:
        raise NoGradient("the response does not depend on it")
    return gradient


def ending(subject: Subject) -> str:
    """Where the gradient ends on its way through the network, in a sentence; empty where it does not."""
    found: list[str] = []
    network = subject.network
    picture = torch.full((2, network.inputs, *network.size), 0.5)

    def noted(name: str, operation: str, read: tuple[Tensor, ...], value: Tensor) -> None:
        if not found and any(leads_to(x, tensor) for tensor in read) and not leads_to(x, value):
            where = operation if name == operation else f"{operation} (at {name})"
            found.append(
                f"It ends at {where}, which gives a value without a gradient: a choice, a step, an operation on whole "
                "numbers or quantized weights, or one under `torch.no_grad()`."
            )

    with torch.enable_grad(), keep_pristine(network.module), suppress(Exception):
        x = network.prepare(picture).detach().requires_grad_(True)
        with listening(network.module, lambda *_: None, noted=noted):
            network.module(x)
    return found[0] if found else ""


def leads_to(x: Tensor, value: Tensor) -> bool:
    """Whether a gradient leads from a value to the picture `x`."""
    if value is x or not value.requires_grad:
        return value is x
    (gradient,) = torch.autograd.grad(value.sum(), x, retain_graph=True, allow_unused=True)
    return gradient is not None


def _ill_fitting(recipe: Recipe, x: Tensor, scene: Scene) -> str:
    came, seen = (" x ".join(map(str, shape)) for shape in (tuple(x.shape[1:]), scene.shape[1:]))
    return (
        f"the recipe {recipe.name!r} makes pictures of {came} (colors, height, width), and what is to be maximized "
        f"sees {seen}; a canvas has to make pictures of scene.shape."
    )


@dataclass
class Best:
    """The best parameters met so far, picture by picture."""

    responses: Tensor
    parameters: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> Best:
        lowest = torch.full((len(parameters),), -torch.inf, device=parameters.device)
        return cls(lowest, parameters.clone())

    def update(self, responses: Tensor, parameters: Tensor) -> None:
        better = responses > self.responses
        self.responses = torch.where(better, responses, self.responses)
        self.parameters = torch.where(better.view(-1, *[1] * (parameters.ndim - 1)), parameters, self.parameters)


@torch.no_grad()
def finished(
    hear: Hear,
    scene: Scene,
    recipe: Recipe,
    parameters: Tensor,
    responses: list[Tensor],
    alive: Tensor,
    best: Best | None,
    *,
    sign: float,
    exact: Hear,
) -> Ascended:
    """The last look, in full precision and without jitter."""
    if best is not None:
        last = recipe.canvas.whitened(parameters, scene)
        best.update(sign * hear(last if bool(scene.inside.all()) else last * scene.inside), parameters)
        parameters = best.parameters
    x = recipe.canvas.whitened(parameters, scene) * scene.inside
    final = exact(x)
    history = torch.stack([*(sign * one for one in responses), final], 1)
    return Ascended(*(value.cpu().numpy() for value in (x, final, history, alive)))
