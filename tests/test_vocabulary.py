"""Boxes, fields, units and neurons: the facts that all else is said in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitscope.errors import BadInput, UnknownName
from unitscope.vocabulary import Bounds, Box, Neuron, ReceptiveField, Site, Unit, match_names, resolve_sites

whole = st.integers(-50, 300)
boxes = st.tuples(whole, whole, st.integers(1, 80), st.integers(1, 80)).map(
    lambda b: Box(b[0], b[1], b[0] + b[2], b[1] + b[3])
)
sizes = st.tuples(st.integers(1, 250), st.integers(1, 250))


def pixels(box: Box) -> set[tuple[int, int]]:
    """All pixels of a box, one by one."""
    return {(row, col) for row in range(box.top, box.bottom) for col in range(box.left, box.right)}


@given(boxes, sizes)
def test_a_clipped_box_holds_the_pixels_that_lie_on_the_picture(box: Box, size: tuple[int, int]) -> None:
    on_picture = {(row, col) for row, col in pixels(box) if 0 <= row < size[0] and 0 <= col < size[1]}
    assert pixels(box.clip(size)) == on_picture
    assert box.fall_off(size) == pytest.approx(1 - len(on_picture) / len(pixels(box)))


@given(boxes, whole, whole)
def test_a_shifted_box_keeps_its_size(box: Box, rows: int, cols: int) -> None:
    moved = box.shift(rows, cols)
    assert pixels(moved) == {(row + rows, col + cols) for row, col in pixels(box)}
    assert (moved.height, moved.width) == (box.height, box.width)


@given(boxes, boxes)
def test_the_shared_rectangle_and_the_hull_hold_what_both_and_what_either_hold(one: Box, other: Box) -> None:
    assert pixels(one & other) == pixels(one) & pixels(other)
    hull = one.hull(other)
    assert pixels(hull) >= pixels(one) | pixels(other)
    assert hull == (*map(min, one[:2], other[:2]), *map(max, one[2:], other[2:]))


@given(boxes, boxes)
def test_slices_cut_a_box_out_of_an_array_that_shows_a_larger_one(one: Box, other: Box) -> None:
    frame = one.hull(other)
    rows, cols = np.mgrid[frame.top : frame.bottom, frame.left : frame.right]
    here = one.slices(frame)
    assert set(zip(rows[here].ravel().tolist(), cols[here].ravel().tolist(), strict=True)) == pixels(one)


def test_a_field_moves_by_its_stride() -> None:
    field = ReceptiveField(size=(27, 27), stride=(4, 4), start=(-13, -13))
    assert field.box(0, 0) == Box(-13, -13, 14, 14)
    assert field.box(28, 3) == Box(99, -1, 126, 26)
    assert field.center == (0, 0)
    assert str(field) == "27 x 27"


@pytest.mark.parametrize(
    "text",
    ["layer1.0.relu_1:18", " maxpool:0 ", "features.3:511", "max pool:3", "block[1]:2", "a:7:3", "x@2,3:4", "*:0"],
)
def test_a_unit_is_understood_and_written_alike(text: str) -> None:
    unit = Unit.parse(text)
    assert str(unit) == text.strip()
    assert Unit.parse(str(unit)) == unit


@pytest.mark.parametrize(
    "text", ["", "layer1.0.relu", "maxpool:", ":3", "maxpool:-1", "maxpool:3@1,1", "a:1.5", "a: 3", " :3"]
)
def test_what_names_no_unit_is_told_so(text: str) -> None:
    with pytest.raises(
        BadInput, match=r"does not name a unit; write it as SITE:CHANNEL, for instance layer1\.0\.relu:18"
    ):
        Unit.parse(text)


@given(st.integers(0, 999), st.integers(0, 223), st.integers(0, 223))
def test_a_neuron_is_understood_and_written_alike(channel: int, row: int, col: int) -> None:
    neuron = Neuron(Unit("layer1.0.relu_1", channel), row, col)
    assert Neuron.parse(str(neuron)) == neuron
    assert str(neuron) == f"layer1.0.relu_1:{channel}@{row},{col}"


@pytest.mark.parametrize("text", ["maxpool:3", "maxpool:3@", "maxpool:3@1", "maxpool:3@1,-1", "@1,1"])
def test_what_names_no_neuron_is_told_so(text: str) -> None:
    with pytest.raises(BadInput, match="does not name a neuron; write it as SITE:CHANNEL@ROW,COL"):
        Neuron.parse(text)


def test_a_neuron_of_no_unit_is_told_so() -> None:
    with pytest.raises(BadInput, match="'maxpool@1,1' does not name a neuron"):
        Neuron.parse("maxpool@1,1")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("block[1]", ["block[1]"]),
        ("block[1].*", ["block[1].conv"]),
        ("block[12]", ["block1", "block2"]),
        ("a*b", ["a*b"]),
        ("a*", ["a*b", "acb", "a b"]),
        ("a b", ["a b"]),
        ("what?", ["what?"]),
        ("wha??", ["what?"]),
        ("x:3", ["x:3"]),
        ("x@2,3", ["x@2,3"]),
        ("nothing", []),
    ],
)
def test_the_name_itself_goes_before_a_glob(pattern: str, names: list[str]) -> None:
    known = [
        "block1",
        "block[1]",
        "block[1].conv",
        "block1.conv",
        "block2",
        "a*b",
        "acb",
        "a b",
        "what?",
        "x:3",
        "x@2,3",
    ]
    assert match_names(pattern, known) == names


def site(name: str, module: str) -> Site:
    zero = np.zeros((1, 1, 1), np.int32)
    field = ReceptiveField((3, 3), (1, 1), (0, 0))
    return Site(name, 4, (1, 1), (3, 3), "conv2d", Bounds(*[zero] * 4), (field,), module=module)


def test_a_name_that_is_that_of_another_module_is_told_of() -> None:
    sites = {one.name: one for one in (site("conv", "conv_1"), site("conv_1", "conv"), site("relu", "relu"))}
    with pytest.warns(UserWarning, match="'conv' is the output of the module 'conv_1'; that of the module 'conv' is"):
        assert list(resolve_sites(sites, "conv")) == ["conv"]
    assert list(resolve_sites(sites, ["relu", "c*"])) == ["conv", "conv_1", "relu"]
    alone = {"conv": site("conv", "conv_2")}
    assert list(resolve_sites(alone, "conv")) == ["conv"]
    with pytest.raises(UnknownName, match="The output of the module 'conv_2' is the site 'conv'"):
        resolve_sites(alone, "conv_2")


def test_units_are_ordered_by_site_and_channel() -> None:
    assert sorted([Unit("b", 0), Unit("a", 10), Unit("a", 2)]) == [Unit("a", 2), Unit("a", 10), Unit("b", 0)]


def test_bounds_are_read_where_they_are_shared_and_where_they_are_not() -> None:
    rows = np.arange(4, dtype=np.int32).reshape(1, 4, 1)
    each = np.arange(2 * 4 * 3, dtype=np.int32).reshape(2, 4, 3)
    bounds = Bounds(top=rows, left=each, bottom=rows + 3, right=each + 1)
    assert bounds.at(1, 2, 0) == Box(2, 18, 5, 19)
    assert bounds.at(0, 3, 2) == Box(3, 11, 6, 12)
