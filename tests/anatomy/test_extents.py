"""Operations that strangers' networks use: fields by the oracle, an upper bound, or a cause; no crash."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.oracles.blindness import disagreements
from unitscope.anatomy.extent_registry import RULES, Call
from unitscope.anatomy.sites import sites
from unitscope.anatomy.value_hooks import hook_values
from unitscope.errors import BadInput
from unitscope.vocabulary import Site, resolve_sites


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
    monkeypatch.setitem(RULES, "flip", lambda call: call.extent_of(call.subject))
    monkeypatch.setitem(RULES, "transpose", RULES["flip"])
    _, found = looked_at(lambda y: y.transpose(2, 3).relu())
    assert found["relu"].field().status == "unknown"


def test_pictures_and_other_things_in_one_axis_are_told_from_pictures():
    """Behind an operation of which nothing is known, pictures and places in one axis are still both."""
    _, found = looked_at(lambda y: torch.linalg.pinv(y.permute(0, 2, 3, 1).reshape(-1, 2, 2)).reshape(-1, 4).relu())
    assert "relu" not in found


def halves(y: Tensor) -> Tensor:
    out = torch.empty_like(y)
    out[:, :2], out[:, 2:] = y[:, 2:], y[:, :2].flip(2)
    return out.relu()


def views(y: Tensor) -> Tensor:
    out = torch.zeros_like(y)
    out[:, :2].copy_(y[:, 2:])
    out[:, 2:].copy_(y[:, :2])
    return out.relu()


def channels_one_by_one(y: Tensor) -> Tensor:
    out = torch.zeros(len(y), 4, *y.shape[2:], dtype=y.dtype)
    for channel in range(4):
        out[:, channel] = y[:, 3 - channel]
    return out.relu()


def added_into(y: Tensor) -> Tensor:
    out = y.clone()
    out[:, :2] += y[:, 2:].flip(3)
    return out.relu()


def in_place_through_a_view(y: Tensor) -> Tensor:
    y[:, :2].sigmoid_()
    return y.relu()


@pytest.mark.parametrize("deed", [halves, views, channels_one_by_one, added_into, in_place_through_a_view])
def test_what_was_written_to_in_parts_is_a_site_when_it_is_read(deed: Callable[[Tensor], Tensor]):
    module, found = looked_at(deed)
    _, lines = disagreements(module.double(), (12, 11), found)
    assert lines == []
    assert [name for name in found if "setitem" in name] == ["setitem"]
    whole, module = found["setitem"], module.float()
    assert (whole.channels, whole.lattice, whole.preactivation, whole.readers) == (4, (12, 11), True, ("relu",))
    heard: dict[str, Tensor] = {}
    with torch.no_grad(), hook_values(module, lambda name, value: heard.update({name: value.clone()})):
        result = module(torch.rand(2, 3, 12, 11))
    torch.testing.assert_close(heard["setitem"].relu(), result, rtol=0, atol=0)


def test_a_value_put_in_place_of_one_that_was_written_to_is_read():
    module, _ = looked_at(halves)
    with (
        torch.no_grad(),
        hook_values(module, lambda name, value: torch.ones_like(value) if name == "setitem" else None),
    ):
        assert (module(torch.rand(1, 3, 12, 11)) == 1).all()


def test_plain_writing_in_place_makes_no_site_of_its_own():
    _, found = looked_at(lambda y: F.relu(y.add_(1.0), inplace=True).mul_(2.0))
    assert list(found) == ["conv", "add_", "relu", "mul_"]


OUTSIDE = {
    "numpy": lambda y: torch.from_numpy(np.tanh(y.detach().numpy())),
    "an array": lambda y: torch.as_tensor(np.asarray(y.detach()) * 2),
    "lists": lambda y: torch.tensor(y.detach().tolist()),
    "another library": lambda y: torch.from_dlpack(y.detach()),
}


class There(nn.Module):
    """Values that leave torch and come back."""

    def __init__(self, deed: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.deed, self.one, self.two, self.relu = deed, nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.two(self.deed(self.one(x))))


@pytest.mark.parametrize("what", OUTSIDE)
def test_values_that_left_torch_are_sites_of_unknown_fields_when_they_are_back(what: str):
    found = sites(SimpleNamespace(module=There(OUTSIDE[what]).eval(), size=(12, 11), inputs=3))
    assert found["one"].field().status == "exact"
    assert found["two"].preactivation
    for name in ("two", "relu"):
        assert (found[name].channels, found[name].lattice, found[name].field().status) == (4, (8, 7), "unknown")
        assert f"by {what if what == 'another library' else 'Python' if what == 'lists' else 'numpy'}" in (
            found[name].field().cause
        )


def test_sites_with_pictures_on_another_axis_are_told_of():
    _, found = looked_at(lambda y: F.gelu(y.flatten(2).permute(2, 0, 1)).mean(0))
    turned, pooled = found["gelu"], found["mean"]
    assert (turned.field().status, turned.field().cause) == (
        "unknown", "the pictures lie on axis 1 of its tensor, not on axis 0",
    )  # fmt: skip
    assert not found["permute"].preactivation
    assert pooled.field().status == "whole image"
    with pytest.raises(BadInput, match="responses of gelu cannot be read: the pictures lie on axis 1"):
        resolve_sites(found, "gelu")
    assert "gelu" not in resolve_sites(found, "*")
