"""Images that leave a unit at zero: on its response axis they lie between its preferred and antipreferred images.

    antipreferred ... trough < 0 ........ quiet: nearest to 0 at all positions ........ peak > 0 ... preferred

An image is quiet for a unit where no position of the lattice answers, neither above nor below zero. So the response
farthest from zero is taken of each image, and the images are sorted by its magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from unitscope.analysis.selectivity import has_responses
from unitscope.record import Record, SiteFacts


@dataclass(frozen=True)
class Quiet:
    """Images that a unit hardly answers to anywhere: `image` and its response farthest from zero, `value`, nearest
    first; image -1 and NaN where a unit has no finite response.
    """

    image: Int[np.ndarray, "unit rank"]
    value: Float[np.ndarray, "unit rank"]


def quiet(record: Record, site: SiteFacts, *, count: int) -> Quiet | None:
    """The `count` images to which each unit of a site responds least at all: by the larger of peak and trough, without
    sign. None where the record does not keep each image's response (`unitscope survey --responses`).
    """
    if not has_responses(record):
        return None
    units = slice(site.first_unit, site.first_unit + site.channels)
    peak, trough = (np.asarray(record.array(f"responses/{kind}")[units]) for kind in ("peak", "trough"))
    value = np.where(np.abs(peak) >= np.abs(trough), peak, trough)
    distance = np.where(np.isfinite(value), np.abs(value), np.inf)
    count = min(count, value.shape[1])
    image = np.argsort(distance, axis=1, kind="stable")[:, :count]
    found = np.isfinite(np.take_along_axis(distance, image, axis=1))
    return Quiet(
        np.where(found, image, -1), np.where(found, np.take_along_axis(value, image, axis=1), np.nan).astype(float)
    )
