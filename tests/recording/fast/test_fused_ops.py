"""What is fused with reading: the work of rectifiers and normalizations is done as the modules would have done it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from unitscope.anatomy.sites import sites as sites_of
from unitscope.errors import BadInput
from unitscope.networks import Network, load
from unitscope.recording.electrode import Electrodes, ForwardPass, Instrument, Keep, choose
from unitscope.recording.fast.fused_ops import Rectifier, hook_fused_modules
from unitscope.recording.fast.reader import FastPass, place_fast
from unitscope.vocabulary import Site

Take = Callable[[Site, Tensor, Rectifier], Tensor | None]


def network_of(module: nn.Module) -> Network:
    return Network(module.eval(), size=16, mean=(0.5,) * 3, std=(0.3,) * 3)


def place_both(network: Network, sites: dict[str, Site]) -> tuple[Electrodes, FastPass]:
    """Electrodes that are known to be tapped, and what may be fused there."""
    electrodes, fast_pass = place_fast(network, sites)
    assert fast_pass is not None
    return electrodes, fast_pass


def show_fused(both: tuple[Electrodes, FastPass], x: Tensor, keep: Keep, take: Take) -> None:
    """Show pictures, while `take` is offered the work of rectifiers and normalizations."""
    electrodes, fast_pass = both

    def instrument(forward_pass: ForwardPass):
        def add_fused(name: str, value: Tensor, rectifier: Rectifier) -> Tensor | None:
            return forward_pass.take_raw(name, value, lambda site, given: take(site, given, rectifier))

        return hook_fused_modules(fast_pass.taps, forward_pass.take, add_fused=add_fused, norms=fast_pass.norms)

    typed: Instrument = instrument
    electrodes.show(x, keep, typed)


def test_sites_are_tapped_where_their_rectifiers_are_given_them():
    network = load("resnet18", width=4, classes=3, size=64)
    _, fast_pass = place_both(network, choose(sites_of(network), None))
    by_site = {tap.site: tap for tap in fast_pass.taps}
    for name in ("bn1", "layer1.0.bn1", "layer1.0.add"):
        assert isinstance(by_site[name].module, nn.ReLU), name
        assert by_site[name].given, name


class Rectifying(nn.Module):
    """A sum that is rectified, in place or not, and read once more."""

    def __init__(self, rectifier: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.rectifier = rectifier
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        sums = self.conv(x) + x
        return self.pool(self.rectifier(sums) + sums)


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("kind", [nn.ReLU, nn.ReLU6, nn.Hardtanh])
def test_a_rectifiers_work_can_be_taken_over(kind, inplace):
    network = network_of(Rectifying(kind(inplace=inplace)))
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    seen: list[Rectifier] = []

    def rectify(_site: Site, value: Tensor, rectifier: Rectifier) -> Tensor | None:
        seen.append(rectifier)
        gives = value if rectifier.inplace else value.clone()
        return gives.clamp_(rectifier.low, rectifier.high).add_(1)

    both = place_both(network, {"add": sites_of(network)["add"], "pool": sites_of(network)["pool"]})
    heard: dict[str, Tensor] = {}

    def keep(site: Site, value: Tensor) -> None:
        heard[site.name] = value.clone()

    with torch.no_grad():
        both[0].show(x, keep)
        plain = heard["pool"]
        show_fused(both, x, keep, lambda *_: None)
        assert torch.equal(heard["pool"], plain)
        show_fused(both, x, keep, rectify)
    torch.testing.assert_close(heard["pool"], plain + (2 if inplace else 1))
    assert seen == [Rectifier(*{nn.ReLU: (0, torch.inf), nn.ReLU6: (0, 6), nn.Hardtanh: (-1, 1)}[kind], inplace)]
    assert "forward" not in vars(network.module.rectifier)


def test_what_may_be_no_mere_rectifier_keeps_its_work():
    class Odd(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

    assert Rectifier.of(Odd()) is None
    assert Rectifier.of(nn.LeakyReLU()) is None
    network = network_of(Rectifying(nn.ReLU()))
    network.module.rectifier.forward = lambda x: x - 1  # a user's own
    heard: dict[str, Tensor] = {}
    with torch.no_grad():
        x = torch.randn(1, 3, 16, 16)
        both = place_both(network, sites_of(network))
        show_fused(both, x, lambda site, value: heard.update({site.name: value.clone()}), lambda _site, value, _: value)
        assert torch.equal(network.module.pool((heard["add"] - 1) + heard["add"]), heard["pool"])
    assert "forward" in vars(network.module.rectifier)


class Normalizing(nn.Module):
    """A convolution, its normalization and rectification; `way` is what else is done."""

    def __init__(self, way: str = "", *, inplace: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(3 if way == "input" else 5)
        self.relu = nn.ReLU(inplace=inplace)
        self.pool = nn.MaxPool2d(2)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        given = x if self.way == "input" else self.conv(x)
        gives = self.norm(given)
        if self.way == "between":
            gives = gives + gives.mean()
        rectified = gives * 2 if self.way == "elsewhere" else self.relu(gives)
        if self.way == "late":
            rectified = rectified + given
        return self.pool(rectified)


@pytest.mark.parametrize(
    ("way", "inplace", "norm", "spare"),
    [
        ("", True, True, True),
        ("", False, False, False),
        ("late", True, True, False),
        ("input", True, True, False),
        ("between", True, False, False),
    ],
)
def test_what_may_be_done_together_and_what_overwritten(way, inplace, norm, spare):
    network = network_of(Normalizing(way, inplace=inplace))
    _, fast_pass = place_both(network, choose(sites_of(network), None))
    [tap] = [tap for tap in fast_pass.taps if isinstance(tap.module, nn.ReLU)]
    fused = fast_pass.norms.get(tap.site)
    assert (fused is not None and fused.norm is network.module.norm) == norm
    assert (fused is not None and fused.spare) == spare


def test_nothing_is_overwritten_that_somebody_listens_to():
    network = network_of(Normalizing())
    handle = network.module.conv.register_forward_hook(lambda *_: None)
    _, fast_pass = place_both(network, choose(sites_of(network), None))
    handle.remove()
    assert not fast_pass.norms
    assert place_both(network, choose(sites_of(network), None))[1].norms


def normalize_and_rectify(_site: Site, given: Tensor, kind: Rectifier) -> Tensor:
    gives = given if kind.norm is None else nn.BatchNorm2d.forward(kind.norm, given)
    gives = gives.clamp(kind.low, kind.high)
    return given.copy_(gives) if kind.inplace else gives


@pytest.mark.parametrize("way", ["", "late", "input", "between"])
def test_the_network_goes_on_as_it_would_have(way):
    network = network_of(Normalizing(way))
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    both = place_both(network, {name: sites_of(network)[name] for name in ("norm", "pool")})
    heard: list[Tensor] = []

    def keep(_site: Site, value: Tensor) -> None:
        heard.append(value.clone())

    with torch.no_grad():
        weights = {name: value.clone() for name, value in network.module.state_dict().items()}
        both[0].show(x, keep)
        plain = heard[-1]
        show_fused(both, x, keep, normalize_and_rectify)
    assert torch.equal(heard[-1], plain)
    assert all(torch.equal(value, weights[name]) for name, value in network.module.state_dict().items())
    assert not any("forward" in vars(part) for part in network.module.modules())


def test_another_path_is_noticed_where_something_was_overwritten():
    network = network_of(Normalizing())
    both = place_both(network, choose(sites_of(network), None))
    x = torch.randn(2, 3, 16, 16)
    network.module.way = "late"
    later: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        show_fused(both, x, lambda site, value: later.update({site.name: value.clone()}), normalize_and_rectify)
    assert later["pool"].isnan().all()  # no number that could be taken for a response
    network.module.way = "elsewhere"
    with torch.no_grad(), pytest.raises(BadInput, match="elsewhere than before"):
        show_fused(both, x, lambda *_: None, normalize_and_rectify)
    assert not any("forward" in vars(part) for part in network.module.modules())
