"""Certificates: what no picture can make a unit answer, proven from the weights (methods 5, level L3).

The network is shown two "pictures" at once: the lowest and the highest value of every pixel. Each operation then takes
bounds to bounds: what is monotone as it is, sums of products by the signs of the weights, and whatever has no rule
gives NaN, that is nothing is proven. For the first layer, zero padding at borders included, this is the closed form
sup = sum_k max(w_k lo_k, w_k hi_k) + b, which some picture reaches; further on the bounds are sound, but wide.

Bounds are computed in float32 and widened by more than what the rounding of both, theirs and the network's own, can
make, in whatever order it adds products in float32. Arithmetic in half precision or TF32 is not covered, nor are
convolutions by way of a transform (Winograd, FFT).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from unitscope.anatomy.bounds import ROUNDING, RULES, Operation, Undecided, Unproven, poisoned
from unitscope.anatomy.calls import flat
from unitscope.anatomy.listening import listening
from unitscope.anatomy.memories import Memories
from unitscope.anatomy.watching import named, plain_name, written
from unitscope.vocabulary import Site, Size


@runtime_checkable
class Network(Protocol):
    """What is needed of a network: the module, and the range of the pictures that it is shown."""

    @property
    def module(self) -> nn.Module: ...
    @property
    def size(self) -> Size: ...
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
    bounding = Bounding()
    found: dict[str, Certificate] = {}

    def heard(name: str, value: Tensor) -> None:
        if name in sites and sites[name].field().status != "unknown":
            with _disable_current_modes():  # what is read off the bounds is no operation of the network
                found[name] = bounding.certificate(value, sites[name])

    extremes = bounding.begin(extreme_pictures(network))
    try:
        with torch.no_grad(), full_precision(), listening(network.module, heard), bounding:
            network.module(extremes)
    except (Undecided, RuntimeError, ValueError, IndexError):
        pass  # nothing is proven of what would have come
    return {name: found.get(name) or unknown(site.channels) for name, site in sites.items()}


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 as it is: neither TF32 nor bfloat16 within products, and no convolution by way of a transform."""
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
    rounding = ROUNDING * (values.abs() + (mean / std).abs())
    values = values + torch.tensor([-1.0, 1.0], dtype=torch.float64, device=device)[:, None] * rounding
    return values[:, :, None, None].repeat(1, 1, *network.size).float()


def unknown(channels: int) -> Certificate:
    return Certificate(*(np.full(channels, np.nan, dtype=np.float32) for _ in NAMES))


def joined(certificates: Mapping[str, Certificate]) -> Certificate:
    """The certificates of several sites as one, in their order."""
    return Certificate(*(np.concatenate([getattr(one, name) for one in certificates.values()]) for name in NAMES))


@dataclass(frozen=True)
class Causes:
    """What made a tensor's channels, as far as it is known: [unit] each."""

    kernel_norm: Float[Tensor, " unit"]
    gain: Float[Tensor, " unit"]
    offset: Float[Tensor, " unit"]


@dataclass(eq=False)
class Bounding(TorchDispatchMode):
    """Takes every operation that depends on the picture from bounds to bounds, [lowest highest] along the first
    axis.
    """

    memories: Memories = field(default_factory=Memories)
    bounded: set[int] = field(default_factory=set)
    causes: dict[int, Causes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def begin(self, extremes: Tensor) -> Tensor:
        self.bounded.add(self.memories.number(extremes))
        return extremes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        arguments = named(func, args, kwargs)
        if not any(self.depends(tensor) for tensor in flat(arguments.values())):
            return func(*args, **kwargs)
        operation = Operation(plain_name(func), func, args, kwargs, arguments, self.depends)
        targets = written(func, arguments)
        try:
            result = RULES[operation.name](operation) if operation.name in RULES else poisoned(operation)
        except Unproven:
            result = poisoned(operation)
        if targets and not any(result is target for target in targets):
            targets[0].copy_(result)
            result = targets[0]
        for tensor in (*flat([result]), *targets):
            self.bounded.add(self.memories.number(tensor))
        self.explain(operation, result, overwritten=bool(targets))
        return result

    def depends(self, tensor: Any) -> bool:
        return isinstance(tensor, Tensor) and self.memories.number(tensor) in self.bounded

    # why

    def explain(self, operation: Operation, result: Any, *, overwritten: bool) -> None:
        """Note the weights behind the result's channels, or that they are no longer known."""
        first = result[0] if isinstance(result, tuple | list) else result
        if not isinstance(first, Tensor):
            return
        memory = self.memories.number(first)
        known = self.why(operation)
        if known is not None:
            self.causes[memory] = known
        elif overwritten:
            self.causes.pop(memory, None)

    def why(self, operation: Operation) -> Causes | None:
        subject = next(iter(operation.arguments.values()))
        if operation.name == "convolution" and not operation["transposed"]:
            norm = operation["weight"].double().flatten(1).norm(dim=1)
            nothing = torch.full_like(norm, torch.nan)
            return Causes(norm, nothing, nothing if operation["bias"] is None else operation["bias"].double())
        if operation.name == "cat":
            known = [self.causes.get(self.memories.number(tensor)) for tensor in operation["tensors"]]
            if operation.get("dim") != 1 or any(one is None for one in known):
                return None
            return Causes(*(torch.cat([getattr(one, name) for one in known]) for name in NAMES[1:]))
        before = self.causes.get(self.memories.number(subject)) if isinstance(subject, Tensor) else None
        if "batch_norm" in operation.name:
            empty = torch.full((operation["input"].shape[1],), torch.nan)
            before = before or Causes(empty, empty, empty)
            parts = {"gain": operation.get("weight"), "offset": operation.get("bias")}
            return replace(before, **{name: value.double() for name, value in parts.items() if value is not None})
        as_it_lies = operation.name != "clone" or contiguous(subject)
        return before if operation.name in CHANNEL_BY_CHANNEL and as_it_lies else None

    def certificate(self, value: Tensor, site: Site) -> Certificate:
        """What is known of a site's value."""
        if value.shape[0] != 2 or value.dtype != torch.float32 or site.channel_axis == 0:
            return unknown(site.channels)
        highest = value[1:].movedim(site.channel_axis, 1).reshape(site.channels, -1).amax(1)
        causes = self.causes.get(self.memories.number(value))
        parts = [getattr(causes, name) if causes is not None else None for name in NAMES[1:]]
        known = [None if part is None or len(part) != site.channels else part.cpu().numpy() for part in parts]
        nothing = np.full(site.channels, np.nan, dtype=np.float32)
        return Certificate(
            rounded_up(highest.cpu().numpy()), *(nothing if p is None else p.astype(np.float32) for p in known)
        )


CHANNEL_BY_CHANNEL = frozenset(
    ["relu", "hardtanh", "clamp", "clamp_min", "leaky_relu", "max_pool2d_with_indices", "avg_pool2d", "silu",
     "hardswish", "gelu", "_adaptive_avg_pool2d", "clone", "sigmoid", "hardsigmoid"]
)  # fmt: skip
"""Operations whose channels are made of the same channels of what they read."""


def contiguous(tensor: Tensor) -> bool:
    """Whether a tensor lies in memory as it was made, not as a view with its channels shuffled."""
    return tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last))


def rounded_up(values: Float[np.ndarray, " unit"]) -> Float32[np.ndarray, " unit"]:
    """In float32, and not below what it was."""
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
    return np.where(near < values, np.nextafter(near, np.float32(np.inf)), near)
