"""What the pages say of sites, where rows and columns differ."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.atlas_pages.fake_record import FakeSite, write_pictures, write_record

from unitscope.atlas_pages import figures, means, pages
from unitscope.atlas_pages.site import build_atlas
from unitscope.vocabulary import ReceptiveField


def test_small_drawings_show_the_center_neurons_field_in_its_place_on_the_picture(tmp_path: Path) -> None:
    """A picture of 48 x 96 pixels, the center neuron's field of 12 x 24 at row 14 and column 49."""
    field = ReceptiveField((12, 24), (4, 8), (-6, -7))
    site = FakeSite("conv1", "conv2d", 2, (11, 14), field)
    record = write_record(
        tmp_path / "record", write_pictures(tmp_path / "pictures", count=3), sites=(site,), size=(48, 96), top=2
    )
    page = build_atlas([record], to=tmp_path / "atlas").read_text()
    drawn = {
        kind: [float(value) for value in re.findall(r' (?:x|y|width|height)="([^"]*)"', rest)]
        for kind, rest in re.findall(r'<rect class="(picture|field)"([^>]*)>', page)
    }
    assert drawn["picture"] == [0, 0, 100, 50]  # x, y, width, height, in percent of the longer side
    assert drawn["field"] == [51.04, 14.58, 25, 12.5]


def test_the_first_page_finds_a_sites_patches_in_the_sprites_rows() -> None:
    """A row of 14 patches a site, 73 rows a file."""
    view = SimpleNamespace(slug="net", strip=14)
    assert pages._teaser(view, 72, 3, 9) == {"channel": 9, "file": "net/sprites/teasers-0.webp", "row": 72, "col": 3}
    assert pages._teaser(view, 74, 0, 5) == {"channel": 5, "file": "net/sprites/teasers-1.webp", "row": 1, "col": 0}


def test_kernels_of_a_network_that_wants_blue_first_are_drawn_red_green_blue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = write_record(tmp_path / "record", write_pictures(tmp_path / "pictures", count=3), top=2)
    turned = replace(record, facts={**record.facts, "network": {**record.facts["network"], "order": "BGR"}})
    drawn: list[np.ndarray] = []
    contrast = figures.draw_contrast
    monkeypatch.setattr(figures, "draw_contrast", lambda delta, gain: drawn.append(delta) or contrast(delta, gain=gain))
    for one in (record, turned):
        means.write_kernels(one, one.sites["conv1"], stem=tmp_path / "site")
    for own, other in zip(drawn[:6], drawn[6:], strict=True):
        np.testing.assert_array_equal(own, other[::-1])
