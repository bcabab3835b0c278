"""Certificates: what no picture can make a unit answer, proven from the weights (methods 5, level L3).

Problem: a unit that answered none of a thousand pictures may answer the next one. That a unit answers no picture at all
can only follow from the weights.

Idea: a reading of the network's program, whose facts are bounds. The picture is [lowest highest], two "pictures" at
once: the lowest and the highest value of every pixel. Each operation takes bounds to bounds (bounds.py): what is
monotone as it is, sums of products by the signs of the weights, and whatever has no rule gives NaN, that is, nothing is
proven. For the first layer, zero padding at borders included, this is the closed form
sup = sum_k max(w_k lo_k, w_k hi_k) + b, which some picture reaches; further on the bounds are sound, but wide.

    pixel in [0, 1]     y = 2 p0 - 3 p1 - 2.5     y in [-5.5, -0.5]     relu(y) in [0, 0]: certified dead

Bounds are computed in float32 and widened by more than what the rounding of both, theirs and the network's own, can
make, in whatever order it adds products in float32. Arithmetic in half precision or TF32 is not covered, nor are
convolutions by a transform (Winograd, FFT).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from unitscope.anatomy.bounds import ROUNDING, Undecided, bounds_by_rule, nothing_proven
from unitscope.anatomy.operations import kind
from unitscope.anatomy.program import OVERWRITTEN, Operation, Program, Value
from unitscope.anatomy.sites import program_of
from unitscope.vocabulary import Site, Size


@runtime_checkable
class Network(Protocol):
    """What is needed of a network: the module, and the range of the pictures that it is shown."""

    @property
    def module(self) -> nn.Module: ...
    @property
    def size(self) -> Size: ...
    @property
    def inputs(self) -> int: ...
    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...


@dataclass(frozen=True)
class Certificate:
    """What the weights say of the units of a site; NaN where nothing is known.

    `highest_possible` [unit] is a bound that no response to any picture in [0, 1] exceeds, anywhere on the lattice; a
    unit is certified dead where it is at most 0. Why: `kernel_norm`, the Euclidean norm of the unit's kernel, `gain` of
    its batch normalization, and `offset` (of the batch normalization, else the convolution's).
    """

    highest_possible: Float32[np.ndarray, " unit"]
    kernel_norm: Float32[np.ndarray, " unit"]
    gain: Float32[np.ndarray, " unit"]
    offset: Float32[np.ndarray, " unit"]

    @property
    def dead(self) -> np.ndarray:
        """Which units are proven to answer no picture."""
        return np.asarray(self.highest_possible <= 0)


NAMES = tuple(one.name for one in fields(Certificate))
"""The columns of a certificate."""


def certify(network: Network, sites: Mapping[str, Site]) -> dict[str, Certificate]:
    """A certificate for each of the sites.

    One pass of the network's operations, three to six times as costly as showing one picture. The network is left as it
    was. Sites behind a choice that the network makes by looking at values are not certified.
    """
    found: dict[str, Certificate] = {}
    program = program_of(network)
    with torch.no_grad(), full_precision(), suppress(Undecided, RuntimeError, ValueError, IndexError):
        for value, proven in proven_values(program, extreme_pictures(network)):  # after an error nothing is proven
            for name in program.names.get(value, ()):
                if name in sites and sites[name].field().status != "unknown":
                    found[name] = certificate(proven, sites[name])
    return {name: found.get(name) or unknown_certificate(site.channels) for name, site in sites.items()}


def proven_values(program: Program, extremes: Tensor) -> Iterator[tuple[Value, Proven]]:
    """Each value with what is proven of it, in the order of execution; what nobody needs any more is dropped."""
    facts = {program.origin: Proven(extremes)}
    yield program.origin, facts[program.origin]
    # keep=(): all bounds at once would take as much memory as all maps of two pictures.
    for operation in program.steps(facts, prove, keep=()):
        yield from ((value, facts[value]) for value in operation.results if value in facts)


@contextmanager
def full_precision() -> Iterator[None]:
    """Plain float32: neither TF32 nor bfloat16 within products, and no convolution by a transform."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@torch.inference_mode(False)
def extreme_pictures(network: Network) -> Float[Tensor, "2 color height width"]:
    """The lowest and the highest value of each pixel, as the module is shown them."""
    device = next((tensor.device for tensor in network.module.parameters()), torch.device("cpu"))
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64, device=device)[:, None]
    mean, std = (torch.tensor(values, dtype=torch.float64, device=device) for values in (network.mean, network.std))
    values = ((ends - mean) / std).sort(0).values
    # The network itself computes (pixel - mean) / std in float32, and may round both terms of the difference.
    rounding = ROUNDING * (values.abs() + (mean / std).abs())
    values = values + torch.tensor([-1.0, 1.0], dtype=torch.float64, device=device)[:, None] * rounding
    return values[:, :, None, None].repeat(1, 1, *network.size).float()


def unknown_certificate(channels: int) -> Certificate:
    return Certificate(*(np.full(channels, np.nan, dtype=np.float32) for _ in NAMES))


def concat_certificates(certificates: Mapping[str, Certificate]) -> Certificate:
    """The certificates of several sites as one, in their order."""
    return Certificate(*(np.concatenate([getattr(one, name) for one in certificates.values()]) for name in NAMES))


@dataclass(frozen=True)
class Causes:
    """What made a tensor's channels, as far as it is known: [unit] each."""

    kernel_norm: Float[Tensor, " unit"]
    gain: Float[Tensor, " unit"]
    offset: Float[Tensor, " unit"]


@dataclass(frozen=True, eq=False)
class Proven:
    """The bounds of a value, [lowest highest] along the first axis, and what made its channels."""

    bounds: Tensor
    causes: Causes | None = None


def prove(operation: Operation, facts: Mapping[Value, Proven]) -> list[Proven]:
    """What is proven of an operation's results (see `Program.run`)."""
    bounds = bounds_by_rule(operation, {value: facts[value].bounds for value in operation.reads})
    # A view without a rule may have put other channels in their places, so that the causes are no longer theirs.
    if bounds is None and operation.is_view:
        return [Proven(one) for one in nothing_proven(operation)]
    causes = causes_of(operation, facts)
    return [Proven(one, causes) for one in (nothing_proven(operation) if bounds is None else bounds)]


def causes_of(operation: Operation, facts: Mapping[Value, Proven]) -> Causes | None:
    """The weights behind the channels of the result; None where they are not known."""
    if operation.function is None:
        part = operation.args[1] if operation.name == OVERWRITTEN else None
        return facts[part].causes if isinstance(part, Value) else None
    subject = next(iter(operation.arguments.values()))
    before = facts[subject].causes if isinstance(subject, Value) else None
    # A kernel of a transposed convolution lies along another axis of its weight.
    if operation.name == "convolution" and not operation.arguments["transposed"]:
        return causes_of_convolution(operation)
    if operation.name == "cat":
        return causes_of_cat(operation, facts)
    if "batch_norm" in operation.name:
        return causes_of_normalization(operation, before)
    # A channel shuffle is a view of two axes, their transposition, and a clone that makes it contiguous: behind the
    # clone the channels are in another order.
    as_it_lies = operation.name != "clone" or (isinstance(subject, Value) and contiguous(subject))
    return before if operation.is_view or (kind(operation.name).per_channel and as_it_lies) else None


def causes_of_convolution(operation: Operation) -> Causes | None:
    weight, bias = operation.arguments["weight"], operation.arguments["bias"]
    if isinstance(weight, Value) or isinstance(bias, Value):
        return None
    norm = weight.double().flatten(1).norm(dim=1)
    nothing = torch.full_like(norm, torch.nan)
    return Causes(norm, nothing, nothing if bias is None else bias.double())


def causes_of_cat(operation: Operation, facts: Mapping[Value, Proven]) -> Causes | None:
    tensors = operation.arguments["tensors"]
    known = [facts[one].causes if isinstance(one, Value) else None for one in tensors]
    # Along any other axis than that of channels, a channel would have several causes.
    if operation.arguments.get("dim") != 1 or any(one is None for one in known):
        return None
    return Causes(*(torch.cat([getattr(one, name) for one in known]) for name in NAMES[1:]))


def causes_of_normalization(operation: Operation, before: Causes | None) -> Causes:
    empty = torch.full((operation.results[0].shape[1],), torch.nan)
    # What is not known of the convolution stays NaN; the normalization's own numbers are known.
    before = before or Causes(empty, empty, empty)
    parts = {"gain": operation.arguments.get("weight"), "offset": operation.arguments.get("bias")}
    return replace(before, **{name: value.double() for name, value in parts.items() if isinstance(value, Tensor)})


def certificate(proven: Proven, site: Site) -> Certificate:
    """What is known of a site's value."""
    bounds, causes = proven.bounds, proven.causes
    if bounds.shape[0] != 2 or bounds.dtype != torch.float32 or site.channel_axis == 0:
        return unknown_certificate(site.channels)
    # bounds[1:], not bounds[1]: with the axis of ends, axes have the numbers that they have in the network.
    highest = bounds[1:].movedim(site.channel_axis, 1).reshape(site.channels, -1).amax(1)
    parts = [getattr(causes, name) if causes is not None else None for name in NAMES[1:]]
    known = [None if part is None or len(part) != site.channels else part.cpu().numpy() for part in parts]
    nothing = np.full(site.channels, np.nan, dtype=np.float32)
    return Certificate(
        round_up(highest.cpu().numpy()), *(nothing if p is None else p.astype(np.float32) for p in known)
    )


def contiguous(value: Value) -> bool:
    """Whether a value lies in memory as it was made, not as a view with its channels shuffled."""
    lies = torch.empty_strided(value.shape, value.stride, device="meta")
    return lies.is_contiguous() or (len(value.shape) == 4 and lies.is_contiguous(memory_format=torch.channels_last))


def round_up(values: Float[np.ndarray, " unit"]) -> Float32[np.ndarray, " unit"]:
    """In float32, and not below what it was."""
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
    return np.where(near < values, np.nextafter(near, np.float32(np.inf)), near)
