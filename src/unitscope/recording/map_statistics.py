"""Further statistics of response maps: registered in one place, and then kept by every survey.

A survey keeps peaks, troughs, means, counts and so on of each response map (site_state.py). Another number per map
needs nothing but a `MapStatistic`, in a file of its own:

    def energy(responses):                     # [stimulus unit row col] -> [stimulus unit]
        return responses.square().mean((2, 3))

    register(MapStatistic("energy", energy, begin=lambda site: MeanOfRows(site.channels), finish=MeanOfRows.mean))

Then records have an array "energy" [unit]. It is computed in PyTorch, from the responses as they come to be, whatever
else the fast path does. If it costs too much time, decorate `energy` with `acceleration.accelerated`, and write a
function of the same name into `fast/kernels.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unitscope.recording.accumulator import MapSummary
from unitscope.recording.statistics import Statistic

if TYPE_CHECKING:
    from unitscope.vocabulary import Site

REGISTERED: dict[str, MapStatistic] = {}
"""The further statistics, by name. (Each process of a survey has to register the same ones.)"""


@dataclass(frozen=True)
class MapStatistic:
    """A number per response map, and what is kept of it over all stimuli.

    Args:
        name: The name of the record's array.
        summarize: From responses [stimulus unit row col] to numbers [stimulus unit].
        begin: Makes the empty statistic of a site. A block has the numbers as `block.summaries[name]`, to be taken
            where `block.counted`.
        finish: From the statistic of all blocks to the record's values [unit].
    """

    name: str
    summarize: MapSummary
    begin: Callable[[Site], Statistic]
    finish: Callable[[Any], np.ndarray]


def register(statistic: MapStatistic) -> None:
    """Let all surveys from now on keep a further statistic.

    Raises:
        ValueError: There is one of that name.
    """
    if statistic.name in REGISTERED:
        raise ValueError(f"there is a statistic {statistic.name!r} already")
    REGISTERED[statistic.name] = statistic
