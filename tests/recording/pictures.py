"""Pictures for tests in which it only matters that there are many, and that no two are alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_many(folder: Path, count: int) -> Path:
    """Smooth random pictures of 40 x 40 pixels, numbered from 0000.png."""
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((40, 40), Image.Resampling.BICUBIC).save(folder / f"{number:04d}.png")
    return folder
