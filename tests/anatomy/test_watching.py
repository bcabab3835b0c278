"""Operations that strangers' networks use: fields by the oracle, an upper bound, or a cause; no crash."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.oracles.blindness import disagreements
from unitscope.anatomy.calls import RULES, Call
from unitscope.anatomy.sites import sites
from unitscope.vocabulary import Site


class Behind(nn.Module):
    """A convolution, and what a function makes of its output."""

    def __init__(self, deed: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.deed, self.conv = deed, nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.deed(self.conv(x))


def looked_at(deed: Callable[[Tensor], Tensor]) -> tuple[nn.Module, dict[str, Site]]:
    module = Behind(deed).eval()
    return module, sites(SimpleNamespace(module=module, size=(12, 11), inputs=3))


def pooled(y: Tensor) -> Tensor:
    return y.mean((2, 3), keepdim=True)


def written(place: Callable[[Tensor], None]) -> Callable[[Tensor], Tensor]:
    """The deed of writing into a fresh copy."""

    def deed(y: Tensor) -> Tensor:
        out = y.clone()
        place(out)
        return out

    return deed


EXACT = {
    "a pooled value by itself": lambda y: (lambda m: y - m * m)(pooled(y)),
    "an equal pooled value": lambda y: y - pooled(y) * pooled(y),
    "a pooled value in place": lambda y: (lambda m: y + m.mul_(m))(pooled(y)),
    "swish of a pooled vector": lambda y: (lambda m: m * m.sigmoid())(y.mean((2, 3))),
    "squeeze and excitation": lambda y: (lambda m: y * torch.sigmoid(m * m.sigmoid()))(pooled(y)),
    "two ways of pooling": lambda y: y * (y.amax((2, 3), True) * pooled(y)),
    "three factors": lambda y: (lambda m: m * m * y)(pooled(y)),
    "a norm by hand": lambda y: (y - pooled(y)) * torch.rsqrt(pooled(y * y) - pooled(y) * pooled(y) + 9),
    "a slice put in": lambda y: torch.slice_scatter(y, y[:, :2].flip(3), 1, 2),
    "a channel put in": lambda y: torch.select_scatter(y, y[:, 0, :, :].roll(1, 2), 1, 2),
    "channels put in": lambda y: y.index_copy(1, torch.tensor([0, 3]), y[:, 1:3].flip(2)),
    "channels emptied": lambda y: y.index_fill(1, torch.tensor([0]), 0.0),
    "channels written by number": written(lambda out: out.__setitem__((slice(None), [0, 2]), out[:, [1, 3]].flip(3))),
    "rows written by number": written(lambda out: out.__setitem__((Ellipsis, [0, 2], slice(None)), 0.0)),
    "one channel written": written(lambda out: out.__setitem__((slice(None), 1), out[:, 0].flip(1))),
    "parts of a complex number": lambda y: torch.complex(y, y.relu()).abs(),
    "a Fourier transform there and back": lambda y: torch.fft.ifft2(torch.fft.fft2(y)).real,
}  # fmt: skip


@pytest.mark.parametrize("what", EXACT)
def test_every_neuron_behind(what: str):
    module, found = looked_at(EXACT[what])
    _, lines = disagreements(module, (12, 11), found)
    assert lines == []
    assert len(found) > 1
    assert {site.field(0).status for site in found.values()} <= {"exact", "whole image"}


def unpooled(y: Tensor) -> Tensor:
    values, where = F.max_pool2d(y, 2, return_indices=True)
    return F.max_unpool2d(values, where, 2)


BOUNDED = {
    "unpooling": unpooled,
    "unpooling of something else": lambda y: unpooled(y.relu()).sigmoid(),
    "what the highest channel says": lambda y: y.gather(1, y.argmax(1, keepdim=True)),
    "added at numbers": lambda y: y.index_add(1, torch.tensor([0, 0]), y[:, :2]),
    "scattered": lambda y: torch.zeros_like(y).scatter_add(1, y.argsort(1), y),
}


@pytest.mark.parametrize("what", BOUNDED)
def test_places_that_the_picture_chooses_have_an_upper_bound(what: str):
    _, found = looked_at(BOUNDED[what])
    last = list(found.values())[-1]
    assert len(found) > 1
    assert last.field().status == "upper bound"
    assert last.field().size == (12, 11)


def test_a_table_of_vectors_is_read_at_places_that_the_picture_chose():
    table = torch.rand(4, 5)
    _, found = looked_at(lambda y: F.embedding(y.argmax(1), table).permute(0, 3, 1, 2).relu())
    relu = found["relu"]
    assert (relu.channels, relu.lattice, relu.field().status, relu.field().size) == (5, (12, 11), "exact", (3, 3))


def test_a_rule_that_fails_claims_nothing(monkeypatch: pytest.MonkeyPatch):
    def wrong(_: Call) -> None:
        raise StopIteration

    monkeypatch.setitem(RULES, "mul", wrong)
    _, found = looked_at(lambda y: (y * 2).relu())
    assert found["relu"].field().status == "unknown"
    assert found["relu"].field().cause == "no rule for mul"


def test_a_rule_of_another_shape_claims_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(RULES, "flip", lambda call: call.seen(call.subject))
    monkeypatch.setitem(RULES, "transpose", RULES["flip"])
    _, found = looked_at(lambda y: y.transpose(2, 3).relu())
    assert found["relu"].field().status == "unknown"


def test_pictures_and_other_things_in_one_axis_are_told_from_pictures():
    """Behind an operation of which nothing is known, pictures and places in one axis are still both."""
    _, found = looked_at(lambda y: torch.linalg.pinv(y.permute(0, 2, 3, 1).reshape(-1, 2, 2)).reshape(-1, 4).relu())
    assert "relu" not in found
