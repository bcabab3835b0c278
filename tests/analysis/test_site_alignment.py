"""Which sites stand beside each other."""

from __future__ import annotations

from unitscope.analysis.site_alignment import align_sites
from unitscope.record import SiteFacts
from unitscope.vocabulary import ReceptiveField


def site(name: str, *, channels: int = 8, field: int = 11) -> SiteFacts:
    return SiteFacts(name, channels, (4, 4), "conv2d", True, 0, ReceptiveField((field, field), (2, 2), (0, 0)))


def names(rows) -> list[list[str | None]]:
    return [[None if one is None else one.name for one in row] for row in rows]


def test_a_residual_network_and_its_plain_twin_stand_side_by_side():
    residual = [site(name) for name in ("bn1", "layer1.0.bn1", "layer1.0.add", "layer1.1.bn1", "layer1.1.add")]
    plain = [site(name) for name in ("bn1", "layer1.0.bn1", "layer1.0.bn2", "layer1.1.bn1", "layer1.1.bn2")]
    assert names(align_sites([residual, plain])) == [
        ["bn1", "bn1"],
        ["layer1.0.bn1", "layer1.0.bn1"],
        ["layer1.0.add", "layer1.0.bn2"],
        ["layer1.1.bn1", "layer1.1.bn1"],
        ["layer1.1.add", "layer1.1.bn2"],
    ]


def test_sites_that_differ_in_field_channels_or_number_are_not_paired():
    one = [site("a"), site("x"), site("b")]
    assert names(align_sites([one, [site("a"), site("y", field=13), site("b")]])) == [
        ["a", "a"], ["x", None], [None, "y"], ["b", "b"],
    ]  # fmt: skip
    assert names(align_sites([one, [site("a"), site("y", channels=9), site("b")]]))[1:3] == [["x", None], [None, "y"]]
    assert names(align_sites([one, [site("a"), site("y"), site("z"), site("b")]])) == [
        ["a", "a"], ["x", None], [None, "y"], [None, "z"], ["b", "b"],
    ]  # fmt: skip


def test_a_site_that_only_one_network_has_comes_after_its_predecessor():
    found = align_sites([[site("b")], [site("a"), site("b"), site("c")]])
    assert names(found) == [
        [None, "a"],
        ["b", "b"],
        [None, "c"],
    ]


def test_other_orders_lose_nothing():
    rows = names(align_sites([[site(n) for n in "abc"], [site(n) for n in "cba"], [site(n) for n in "bd"]]))
    for place, order in enumerate(("abc", "cba", "bd")):
        assert [row[place] for row in rows if row[place]] == list(order)
    assert all(len(row) == 3 for row in rows)


def test_one_network_stands_alone():
    assert names(align_sites([[site("a"), site("b")]])) == [["a"], ["b"]]
