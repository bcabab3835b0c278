"""Searches: gradient ascent on the response of many objectives at once, on the part of the picture that they see.

The problem: a search of one picture leaves most of a processor idle; but a result must not depend on what else is asked
for. The idea: objectives whose evaluators have the same key (evaluators.py) share a batch, picture by picture:

    objectives               a:0@3,3   a:5@3,3   a:0@0,0 (at the corner: another cone)
    seeds                     0   1     0   1     0   1
    batch                    [0   1     2   3]   [0   1]

Each picture has its own start, drawn from a generator of its own, its own gradient, step and end. Nothing is computed
over the axis of stimuli.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unitscope.anatomy.value_hooks import hook_values
from unitscope.errors import BadInput
from unitscope.networks import Network
from unitscope.optima import Light, Optimum, paste_pictures
from unitscope.pristine import keep_pristine
from unitscope.synthesis.canvases import Scene
from unitscope.synthesis.evaluators import Evaluator, make_evaluator
from unitscope.synthesis.network_cache import NetworkCache
from unitscope.synthesis.objectives import Objective, positions_of
from unitscope.synthesis.recipes import Recipe
from unitscope.vocabulary import Box, Site, Size

MEMORY = 1 << 29
"""Bytes that the values of one batch may take."""

MOST = 128
"""No more pictures than this are in one batch."""

Progress = Callable[[int, int], None]
"""Called with the number of optimal stimuli found so far, and of all."""


@dataclass(frozen=True)
class Job:
    """An objective with its evaluator, the box of its pictures, and the part of the box whose pixels may be used."""

    objective: Objective
    evaluator: Evaluator
    box: Box
    inside: Box


@dataclass(frozen=True)
class Search:
    """What is the same for all objectives of one call.

    `sign` is 1 to raise responses, -1 to lower them; `batch` bounds the number of pictures in a pass (None: as memory
    allows).
    """

    cache: NetworkCache
    recipe: Recipe
    sign: float
    seeds: int
    seed: int
    post_activation: bool
    bf16: bool
    batch: int | None

    def run(self, objectives: Sequence[Objective], progress: Progress | None) -> Iterator[list[Optimum]]:
        """Optima in batches of one site each, in the order of the objectives as far as batches allow."""
        done, total = 0, len(objectives) * self.seeds
        groups: dict[object, list[Job]] = {}
        for objective in objectives:
            job = self.make_job(objective)
            # By site, too: pictures of one site have one size, and can be written as one array.
            groups.setdefault((job.evaluator.key, job.objective.terms[0].unit.site), []).append(job)
        for jobs in groups.values():
            most = max(1, (self.batch or batch_capacity(jobs[0].evaluator)) // self.seeds)
            for first in range(0, len(jobs), most):
                part = jobs[first : first + most]
                yield self.search_batch(part)
                done += len(part) * self.seeds
                if progress is not None:
                    progress(done, total)

    @torch.inference_mode(False)
    def make_job(self, objective: Objective) -> Job:
        evaluator = make_evaluator(self.cache, objective, post_activation=self.post_activation, half=self.bf16)
        picture = self.cache.network.size
        box, inside = (hull_of_fields(objective, self.cache.sites, picture, own=own) for own in (False, True))
        return Job(objective, evaluator, box, inside.clip(picture))

    @torch.inference_mode(False)
    def search_batch(self, jobs: Sequence[Job]) -> list[Optimum]:
        """The optima of objectives that share a batch, all seeds. What memory does not hold at once goes in parts."""
        items = [(job, number) for job in jobs for number in range(self.seeds)]
        rows = self.batch or batch_capacity(jobs[0].evaluator)
        parts = [self.search_rows(items[n : n + rows]) for n in range(0, len(items), rows)]
        steps = max(part.history.shape[1] for part in parts)
        whitened = np.concatenate([part.whitened for part in parts])
        # Parts that were stable sooner have fewer steps.
        history = np.concatenate(
            [np.pad(p.history, ((0, 0), (0, steps - p.history.shape[1])), constant_values=np.nan) for p in parts]
        )
        responses, moved = (np.concatenate([getattr(p, n) for p in parts]) for n in ("responses", "moved"))
        optima = []
        for n, job in enumerate(jobs):
            mine = slice(n * self.seeds, (n + 1) * self.seeds)
            optima.append(self.make_optimum(job, whitened[mine], responses[mine], history[mine], moved[mine]))
        return optima

    def make_optimum(self, job: Job, whitened: Any, responses: Any, history: Any, moved: Any) -> Optimum:
        network, evaluator = self.cache.network, job.evaluator
        ended = ~np.isnan(history).all(0)
        evaluated_on = evaluator.evaluated_on + (f" ({evaluator.reason})" if evaluator.reason else "")
        return Optimum(
            objective=str(job.objective),
            site=job.objective.terms[0].unit.site,
            channel=job.objective.terms[0].unit.channel,
            box=job.box,
            whitened=paste_pictures(whitened, evaluator.box, job.box),
            responses=responses,
            history=history[:, ended],
            moved=moved,
            light=Light(network.mean, network.std, network.order == "BGR"),
            reason="" if moved.all() else self.explain_no_movement(),
            evaluated_on=evaluated_on,
        )

    def explain_no_movement(self) -> str:
        where = "after the nonlinearity, which lets no gradient through" if self.post_activation else "at the start"
        return f"the gradient was 0 {where}, and the picture could not move"

    @torch.enable_grad()
    def search_rows(self, items: Sequence[tuple[Job, int]]) -> SearchResult:
        jobs = [job for job, _ in items]
        device = self.cache.network.device
        terms = [job.objective.terms for job in jobs]
        channels = torch.tensor([[term.unit.channel for term in each] for each in terms], device=device)
        weights = torch.tensor([[term.weight for term in each] for each in terms], device=device)
        evaluator = jobs[0].evaluator
        generators = [generator_of(self.seed, str(job.objective), number) for job, number in items]

        # The search may run in bfloat16; final responses are those of full precision.
        precise = evaluator
        if self.bf16:
            precise = make_evaluator(self.cache, jobs[0].objective, post_activation=self.post_activation, half=False)

        def exact(x: Tensor) -> Tensor:
            return precise.evaluate(x, channels, weights)

        respond, scene = evaluator.bind_channels(channels, weights), scene_of(self.cache.network, jobs)
        try:
            return ascend_gradient(respond, scene, self.recipe, generators, sign=self.sign, exact=exact)
        except NoGradient as reason:
            raise BadInput(self.no_gradient_message(jobs[0], str(reason))) from reason

    def no_gradient_message(self, job: Job, reason: str) -> str:
        """The message for an objective that has no gradient."""
        where = find_gradient_end(self.cache)
        return (
            f"{job.objective} of {self.cache.network.name} cannot be maximized: there is no gradient from it to the "
            f"picture ({reason}). {where or 'It may not depend on the picture.'} Choose a site before that."
        )


def batch_capacity(evaluator: Evaluator) -> int:
    """How many pictures fit into memory together: values, their gradients, and as much again."""
    # 12: four bytes for each number, three times.
    return max(1, min(MOST, MEMORY // (12 * max(1, evaluator.values_per_picture))))


def generator_of(seed: int, objective: str, number: int) -> torch.Generator:
    """The random numbers of one search: from the seed, the objective's name and the number of the search alone."""
    digest = hashlib.sha256(f"{seed}/{objective}/{number}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def hull_of_fields(objective: Objective, sites: dict[str, Site], picture: Size, *, own: bool) -> Box:
    """The box of the picture that an objective depends on.

    With `own` it is that of the objective's channels, clipped to the picture: the pixels that may be used. Without, it
    is that of all channels of its sites, so that pictures of a site have one size; it may hang over the picture's edge,
    and is the picture where a field is larger than that.
    """
    boxes = []
    for term in objective.terms:
        site = sites[term.unit.site]
        places = positions_of(term, site)
        if isinstance(places, str):
            # The fields of the first and the last position span those of all.
            places = ((0, 0), (site.lattice[0] - 1, site.lattice[1] - 1)) if own else ()
            boxes += [] if own else [Box(0, 0, *picture)]
        for row, col in places:
            if own:
                boxes.append(site.box(row, col, term.unit.channel).clip(picture))
            else:
                boxes += [f.box(row, col) if f.status == "exact" else Box(0, 0, *picture) for f in site.fields]
    top, left, bottom, right = reduce(Box.hull, boxes)
    if bottom - top > picture[0]:
        top, bottom = 0, picture[0]
    if right - left > picture[1]:
        left, right = 0, picture[1]
    return Box(top, left, bottom, right)


def scene_of(network: Network, jobs: Sequence[Job]) -> Scene:
    boxes = tuple(job.evaluator.box for job in jobs)
    device = network.device
    mean, std = (
        torch.tensor(n, device=device, dtype=torch.float32).view(1, -1, 1, 1) for n in (network.mean, network.std)
    )
    inside = torch.zeros((len(jobs), 1, boxes[0].height, boxes[0].width), dtype=torch.bool)
    for n, (job, box) in enumerate(zip(jobs, boxes, strict=True)):
        rows, cols = (job.inside & box).slices(box)
        inside[n, :, rows, cols] = True
    return Scene(boxes, mean, std, network.size, network.order == "BGR", inside.to(device))


@dataclass(frozen=True)
class SearchResult:
    """What a batch of searches gave: final pictures, the responses to them and on the way, and whether each moved."""

    whitened: Float[np.ndarray, "stimulus color height width"]
    responses: Float[np.ndarray, " stimulus"]
    history: Float[np.ndarray, "stimulus step"]
    moved: Bool[np.ndarray, " stimulus"]


ResponseFunction = Callable[[Tensor], Tensor]


def ascend_gradient(
    respond: ResponseFunction,
    scene: Scene,
    recipe: Recipe,
    generators: Sequence[torch.Generator],
    *,
    sign: float,
    exact: ResponseFunction,
) -> SearchResult:
    """Gradient ascent of a batch of pictures, each by itself, until each is stable or the recipe's steps are over.

    Args:
        respond: the responses to whitened pictures, with a gradient.
        scene: what the pictures are part of.
        recipe: start, canvas, jitters, penalties and ascent.
        generators: the random numbers of each picture.
        sign: 1 to raise the responses, -1 to lower them.
        exact: the responses in full precision, for the final pictures.

    Raises:
        NoGradient: the responses have no gradient with respect to the pictures.
        BadInput: the recipe's pictures have another size than the scene.
    """
    canvas, ascent = recipe.canvas, recipe.ascent
    # Where all pixels may be used, the product with the mask is left out in each step.
    entire = bool(scene.inside.all())
    start = recipe.start(scene, generators)
    parameters = canvas.project(canvas.begin(start if entire else start * scene.inside, scene), scene).detach()
    state = ascent.begin(parameters)
    responses: list[Tensor] = []
    alive = torch.zeros(len(start), dtype=torch.bool, device=start.device)
    done = torch.zeros_like(alive)
    best = BestSoFar.of(parameters) if recipe.keep_best else None
    for number in range(ascent.steps):
        parameters.requires_grad_(True)
        x = canvas.whitened(parameters, scene)
        if number == 0 and tuple(x.shape) != scene.shape:
            raise BadInput(_wrong_shape_message(recipe, x, scene))
        x = x if entire else x * scene.inside
        for jitter in recipe.jitters:
            x = jitter(x, generators)
        response = sign * respond(x)
        objective = response - sum(penalty(x) for penalty in recipe.penalties) if recipe.penalties else response
        gradient = gradient_of(objective, parameters)
        parameters = parameters.detach()
        responses.append(response.detach())
        if not bool(alive.all()):
            # What becomes `moved`: whether the gradient was ever other than 0.
            alive |= gradient.flatten(1).any(1)
        # The response belongs to the parameters before the step that follows.
        if best is not None:
            best.update(responses[-1], parameters)
        stable = ascent.stable(responses)
        if stable is not None:
            done |= stable
            if bool(done.all()):
                break
        new = canvas.project(ascent.step(parameters, gradient, state, number), scene).detach()
        # A picture that is stable stays as it is, so that its result does not depend on how long others go on.
        parameters = torch.where(done.view(-1, *[1] * (new.ndim - 1)), parameters, new) if bool(done.any()) else new
    return finish_search(respond, scene, recipe, parameters, responses, alive, best, sign=sign, exact=exact)


class NoGradient(Exception):
    """The response has no gradient with respect to the picture; the message is torch's."""


def gradient_of(objective: Tensor, parameters: Tensor) -> Tensor:
    """The gradient of the sum of responses. Raises NoGradient."""
    if not objective.requires_grad:
        raise NoGradient("the response has none")
    try:
        # Pictures do not depend on each other: the gradient of the sum holds the gradient of each.
        (gradient,) = torch.autograd.grad(objective.sum(), parameters, allow_unused=True)
    except RuntimeError as error:
        raise NoGradient(str(error).strip().split("\n")[0][:160]) from error
    if gradient is None:
        raise NoGradient("the response does not depend on it")
    return gradient


def find_gradient_end(cache: NetworkCache) -> str:
    """Where the gradient ends on its way through the network, in a sentence; empty where it does not.

    That is at the first operation that reads a value with a gradient and gives one without.
    """
    found: list[str] = []
    network = cache.network
    picture = torch.full((2, network.inputs, *network.size), 0.5)

    def check_operation(name: str, operation: str, read: tuple[Tensor, ...], value: Tensor) -> None:
        if not found and any(gradient_reaches(x, tensor) for tensor in read) and not gradient_reaches(x, value):
            where = operation if name == operation else f"{operation} (at {name})"
            found.append(
                f"It ends at {where}, which gives a value without a gradient: a choice, a step, an operation on whole "
                "numbers or quantized weights, or one under `torch.no_grad()`."
            )

    # The network may well fail on the way; what was found by then is the answer.
    with torch.enable_grad(), keep_pristine(network.module), suppress(Exception):
        x = network.prepare(picture).detach().requires_grad_(True)
        with hook_values(network.module, lambda *_: None, note_reads=check_operation):
            network.module(x)
    return found[0] if found else ""


def gradient_reaches(x: Tensor, value: Tensor) -> bool:
    """Whether a gradient leads from a value to the picture `x`."""
    if value is x or not value.requires_grad:
        return value is x
    (gradient,) = torch.autograd.grad(value.sum(), x, retain_graph=True, allow_unused=True)
    return gradient is not None


def _wrong_shape_message(recipe: Recipe, x: Tensor, scene: Scene) -> str:
    came, seen = (" x ".join(map(str, shape)) for shape in (tuple(x.shape[1:]), scene.shape[1:]))
    return (
        f"the recipe {recipe.name!r} makes pictures of {came} (colors, height, width), and what is to be maximized "
        f"sees {seen}; a canvas has to make pictures of scene.shape."
    )


@dataclass
class BestSoFar:
    """The best parameters so far, picture by picture."""

    responses: Tensor
    parameters: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> BestSoFar:
        lowest = torch.full((len(parameters),), -torch.inf, device=parameters.device)
        return cls(lowest, parameters.clone())

    def update(self, responses: Tensor, parameters: Tensor) -> None:
        better = responses > self.responses
        self.responses = torch.where(better, responses, self.responses)
        self.parameters = torch.where(better.view(-1, *[1] * (parameters.ndim - 1)), parameters, self.parameters)


@torch.no_grad()
def finish_search(
    respond: ResponseFunction,
    scene: Scene,
    recipe: Recipe,
    parameters: Tensor,
    responses: list[Tensor],
    alive: Tensor,
    best: BestSoFar | None,
    *,
    sign: float,
    exact: ResponseFunction,
) -> SearchResult:
    """The final pictures, or the best on the way, and the responses to them, without jitter and in full precision."""
    if best is not None:
        # The parameters after the last step have not been tried yet.
        last = recipe.canvas.whitened(parameters, scene)
        best.update(sign * respond(last if bool(scene.inside.all()) else last * scene.inside), parameters)
        parameters = best.parameters
    x = recipe.canvas.whitened(parameters, scene) * scene.inside
    final = exact(x)
    # `responses` were multiplied by the sign; the history holds responses as they are.
    history = torch.stack([*(sign * one for one in responses), final], 1)
    return SearchResult(*(value.cpu().numpy() for value in (x, final, history, alive)))
