"""What the pages say of sites, where rows and columns differ."""

from __future__ import annotations

import re
from pathlib import Path

from tests.atlas.fake_record import FakeSite, write_pictures, write_record

from unitscope.atlas.site import build_atlas
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
