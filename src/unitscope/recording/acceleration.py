"""The one place that chooses between the plain path and the fast path.

Everything that a survey computes is written in NumPy and PyTorch first: that is the plain path, which is readable and
always right. The folder `fast/` does part of that work again in compiled code, bit for bit the same, in a third of the
time. Survey, session and statistics do not know which of the two they got:

    plain path                                   fast path
    accumulator.PlainAccumulator                 fast.reader.FastAccumulator     response maps -> rows of a block
    functions marked with @accelerated           fast.kernels                    blocks -> statistics
    the network's own modules                    fast.fused_ops, fast.max_pool   rectifiers, normalizations, poolings
    -                                            fast.allocator                  memory is used again

A function or a statistic that `fast/` does not offer is computed plainly, so that nothing new needs a fast twin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch

from unitscope.recording.accumulator import Accumulator, PlainAccumulator
from unitscope.recording.fast import allocator, kernels
from unitscope.recording.fast.library import library
from unitscope.recording.fast.reader import FastAccumulator, FastPass, place_fast

if TYPE_CHECKING:
    from unitscope.recording.accumulator import MapSummary
    from unitscope.recording.position_means import PositionSums
    from unitscope.vocabulary import Site

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

__all__ = ["FastPass", "accelerated", "keep_freed_memory", "new_accumulator", "place_fast"]

keep_freed_memory = allocator.keep_freed_memory


def new_accumulator(
    site: Site,
    *,
    device: torch.device,
    size: int,
    per_image: int = 1,
    position_sums: Sequence[PositionSums] = (),
    summaries: Mapping[str, MapSummary] | None = None,
) -> Accumulator:
    """An accumulator for the responses of a site.

    Args:
        site: The site.
        device: Where the network runs.
        size: The largest number of stimuli in a block.
        per_image: How many positions of one image may enter a list.
        position_sums: Sums over positions, which take in each batch as it comes.
        summaries: Further statistics' numbers of each map, by name.
    """
    # The compiled reader looks up one position per map, and reads memory of the CPU.
    if device.type == "cpu" and per_image == 1 and library() is not None:
        return FastAccumulator(
            site.channels, site.lattice, site.center, size=size, position_sums=position_sums, summaries=summaries
        )
    return PlainAccumulator(
        site.center, device=device, per_image=per_image, position_sums=position_sums, summaries=summaries
    )


def accelerated(plain: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Mark a function whose work the fast path may do, where `fast.kernels` has a function of the same name.

    The two take the same arguments and give the same bits. Where the compiled library is missing, or the fast function
    returns NotImplemented, the plain function is called.
    """
    fast: Callable[..., Any] | None = getattr(kernels, plain.__name__, None)
    if fast is None:
        return plain

    @wraps(plain)
    def choose(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        result = NotImplemented if library() is None else fast(*arguments, **named)
        return plain(*arguments, **named) if result is NotImplemented else result

    return choose
