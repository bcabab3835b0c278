"""Sprites: small pictures of all units of a site in a few WebP files, so that a sheet of thousands opens at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from jaxtyping import UInt8

SPRITE_COLUMNS = 32
PER_FILE = 1024
"""Tiles in one file: 32 x 32 of them stay far below the 16,383 pixels that WebP allows a side."""

GUTTER = 1
"""Pixels around each tile that repeat its border, so that no neighbor shines through when a browser scales it."""


def write_sprites(
    tiles: Sequence[UInt8[np.ndarray, "height width 4"] | None],
    *,
    stem: Path,
    lossless: bool = False,
    quality: int = 84,
    columns: int = SPRITE_COLUMNS,
) -> dict[str, Any]:
    """Write tiles of one size in order to STEM-0.webp, STEM-1.webp, ... and say where each is found.

    A tile that is None is left transparent and listed under `missing`.

    Returns:
        What a page needs to show tile i: the files' names, tile height and width, columns, tiles per file, how many.
    """
    height, width = next((tile.shape[:2] for tile in tiles if tile is not None), (1, 1))
    # Whole rows, so that a tile's place follows from its number.
    files, per_file = [], PER_FILE // columns * columns
    for number, first in enumerate(range(0, len(tiles), per_file)):
        sheet = _sheet(tiles[first : first + per_file], height, width, columns)
        path = stem.with_name(f"{stem.name}-{number}.webp")
        Image.fromarray(sheet, "RGBA").save(
            path, "WEBP", lossless=lossless, quality=60 if lossless else quality, method=2
        )
        files.append(path.name)
    return {
        "files": files,
        "tile": [height, width],
        "gutter": GUTTER,
        "columns": columns,
        "per_file": per_file,
        "count": len(tiles),
        "missing": [i for i, tile in enumerate(tiles) if tile is None],
    }


def _sheet(
    tiles: Sequence[np.ndarray | None], height: int, width: int, columns: int
) -> UInt8[np.ndarray, "height width 4"]:
    rows, columns = -(-len(tiles) // columns), min(columns, len(tiles))
    cell = height + 2 * GUTTER, width + 2 * GUTTER
    sheet = np.zeros((rows * cell[0], columns * cell[1], 4), np.uint8)
    for place, tile in enumerate(tiles):
        if tile is not None:
            row, column = divmod(place, columns)
            framed = np.pad(tile, ((GUTTER, GUTTER), (GUTTER, GUTTER), (0, 0)), mode="edge")
            sheet[row * cell[0] : (row + 1) * cell[0], column * cell[1] : (column + 1) * cell[1]] = framed
    return sheet
