"""Many small pictures in a few files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from unitscope.atlas_pages import sprites


def tiles_of(count: int, size: tuple[int, int]) -> list[np.ndarray]:
    generator = np.random.default_rng(count)
    return [
        np.dstack([generator.integers(0, 255, (*size, 3)), np.full(size, 255)]).astype(np.uint8) for _ in range(count)
    ]


@pytest.mark.parametrize(("count", "columns"), [(1, 32), (31, 32), (33, 32), (2100, 32), (30, 14)])
def test_every_tile_is_found_where_the_sprite_says(tmp_path, count, columns):
    tiles = tiles_of(count, (5, 7))
    tiles[0] = None if count > 1 else tiles[0]
    made = sprites.write_sprites(tiles, stem=tmp_path / "site-kind", lossless=True, columns=columns)
    sheets = [np.asarray(Image.open(tmp_path / name).convert("RGBA")) for name in made["files"]]
    assert made["missing"] == ([0] if count > 1 else [])
    for number, expected in enumerate(tiles):
        if expected is not None:
            np.testing.assert_array_equal(tile_at(made, sheets, number), expected)


def tile_at(made: dict, sheets: list[np.ndarray], number: int) -> np.ndarray:
    """What `Atlas.tile` shows, by the same arithmetic."""
    (height, width), gutter = made["tile"], made["gutter"]
    file, within = divmod(number, made["per_file"])
    row, column = divmod(within, made["columns"])
    top, left = row * (height + 2 * gutter) + gutter, column * (width + 2 * gutter) + gutter
    return sheets[file][top : top + height, left : left + width]


def test_ten_thousand_units_stay_within_what_webp_can_hold(tmp_path):
    made = sprites.write_sprites(tiles_of(1, (72, 72)) * 10_000, stem=tmp_path / "many")
    assert len(made["files"]) == 10
    for name in made["files"]:
        with Image.open(tmp_path / name) as sheet:
            assert max(sheet.size) < 16_383


def test_a_site_without_any_picture_is_all_missing(tmp_path):
    made = sprites.write_sprites([None, None], stem=tmp_path / "none")
    assert made["missing"] == [0, 1]


def test_no_neighbor_shines_through(tmp_path):
    """The gutter repeats the tile's border."""
    tiles = tiles_of(2, (4, 4))
    made = sprites.write_sprites(tiles, stem=tmp_path / "two", lossless=True)
    sheet = np.asarray(Image.open(tmp_path / made["files"][0]).convert("RGBA"))
    np.testing.assert_array_equal(sheet[1:5, 0], tiles[0][:, 0])
    np.testing.assert_array_equal(sheet[1:5, 5], tiles[0][:, -1])
