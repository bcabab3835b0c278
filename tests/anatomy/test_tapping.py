"""Hooks on the modules where sites sit hear what listening to everything hears, or are not used."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import needs
from unitscope.anatomy.listening import listening
from unitscope.anatomy.rectifiers import Rectifier
from unitscope.anatomy.sites import sites as sites_of
from unitscope.anatomy.tapping import tapping, taps_of
from unitscope.errors import BadInput
from unitscope.networks import Network, load
from unitscope.recording.electrode import choose, place
from unitscope.vocabulary import Site


class Reused(nn.Module):
    """One module called twice, and overwritten in place; a sum whose value is given to a module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.turns = 2

    def forward(self, x: Tensor) -> Tensor:
        first = self.relu(self.conv(x))
        for _ in range(self.turns - 1):
            x = self.relu(self.conv(first) + x)
        return self.pool(x)


class Functions(nn.Module):
    """A site whose value no module is given or gives."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.relu(self.conv(x) * 2).mean((2, 3))


def network_of(module: nn.Module) -> Network:
    return Network(module.eval(), size=16, mean=(0.5,) * 3, std=(0.3,) * 3)


def heard_both_ways(network: Network, names: list[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    x = torch.rand(2, 3, *network.size, generator=torch.Generator().manual_seed(0))
    tapped: dict[str, Tensor] = {}
    overheard: dict[str, Tensor] = {}
    with torch.no_grad():
        taps = taps_of(network.module, x[:1], dict.fromkeys(names))
        assert taps is not None
        with tapping(taps, lambda name, value: tapped.update({name: value.clone()})):
            network.module(x)
        with listening(network.module, lambda name, value: overheard.update({name: value.clone()})):
            network.module(x)
    return tapped, overheard


def check(network: Network, names: list[str]) -> None:
    tapped, overheard = heard_both_ways(network, names)
    assert list(tapped) == [name for name in overheard if name in names]
    for name, value in tapped.items():
        assert torch.equal(value, overheard[name]), name
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.module.modules())


def test_a_module_that_is_called_twice_is_two_sites():
    network = network_of(Reused())
    assert list(sites_of(network)) == ["conv", "relu", "conv_1", "add", "relu_1", "pool"]
    check(network, ["conv", "relu", "conv_1", "add", "relu_1", "pool"])


@pytest.mark.parametrize("name", ["resnet18", "plainnet34"])
def test_the_default_sites_of_our_networks(name):
    network = load(name, width=4, classes=3, size=64)
    check(network, list(choose(sites_of(network), None)))


@needs("torchvision")
@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2"])
def test_the_default_sites_of_others(name):
    network = load(f"torchvision:{name}")
    check(network, list(choose(sites_of(network), None)))


def test_a_site_that_no_module_gives_is_overheard():
    network = network_of(Functions())
    assert place(network, sites_of(network)).taps is None
    seen = {}
    place(network, sites_of(network)).show(
        torch.rand(1, 3, 16, 16), lambda site, value: seen.update({site.name: value})
    )
    assert seen.keys() == sites_of(network).keys()


def test_a_network_that_takes_another_path_is_refused():
    module = Reused()
    network = network_of(module)
    electrodes = place(network, sites_of(network))
    assert electrodes.taps is not None
    module.turns = 3
    with pytest.raises(BadInput, match="path depends on pictures"), torch.no_grad():
        electrodes.show(torch.rand(1, 3, 16, 16), lambda site, value: None)
    module.turns = 1
    with pytest.raises(BadInput, match="did not pass"), torch.no_grad():
        electrodes.show(torch.rand(1, 3, 16, 16), lambda site, value: None)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_sites_are_tapped_where_their_rectifiers_are_given_them():
    network = load("resnet18", width=4, classes=3, size=64)
    electrodes = place(network, choose(sites_of(network), None))
    assert electrodes.taps is not None
    by_site = {tap.site: tap for tap in electrodes.taps}
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

    electrodes = place(network, {"add": sites_of(network)["add"], "pool": sites_of(network)["pool"]})
    heard: dict[str, Tensor] = {}

    def keep(site: Site, value: Tensor) -> None:
        heard[site.name] = value.clone()

    with torch.no_grad():
        electrodes.show(x, keep)
        plain = heard["pool"]
        electrodes.show(x, keep, lambda *_: None)
        assert torch.equal(heard["pool"], plain)
        electrodes.show(x, keep, rectify)
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
        place(network, sites_of(network)).show(
            x, lambda site, value: heard.update({site.name: value.clone()}), lambda _site, value, _kind: value
        )
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
    taps = place(network, choose(sites_of(network), None)).taps
    assert taps is not None
    [tap] = [tap for tap in taps if isinstance(tap.module, nn.ReLU)]
    assert (tap.norm is network.module.norm, tap.spare) == (norm, spare)


def test_nothing_is_overwritten_that_somebody_listens_to():
    network = network_of(Normalizing())
    handle = network.module.conv.register_forward_hook(lambda *_: None)
    taps = place(network, choose(sites_of(network), None)).taps
    handle.remove()
    assert taps is not None
    assert all(tap.norm is None for tap in taps)
    assert any(tap.norm is not None for tap in place(network, choose(sites_of(network), None)).taps or ())


def normalize_and_rectify(_site: Site, given: Tensor, kind: Rectifier) -> Tensor:
    gives = given if kind.norm is None else nn.BatchNorm2d.forward(kind.norm, given)
    gives = gives.clamp(kind.low, kind.high)
    return given.copy_(gives) if kind.inplace else gives


@pytest.mark.parametrize("way", ["", "late", "input", "between"])
def test_the_network_goes_on_as_it_would_have(way):
    network = network_of(Normalizing(way))
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    electrodes = place(network, {name: sites_of(network)[name] for name in ("norm", "pool")})
    heard: list[Tensor] = []

    def keep(_site: Site, value: Tensor) -> None:
        heard.append(value.clone())

    with torch.no_grad():
        weights = {name: value.clone() for name, value in network.module.state_dict().items()}
        electrodes.show(x, keep)
        plain = heard[-1]
        electrodes.show(x, keep, normalize_and_rectify)
    assert torch.equal(heard[-1], plain)
    assert all(torch.equal(value, weights[name]) for name, value in network.module.state_dict().items())
    assert not any("forward" in vars(part) for part in network.module.modules())


def test_another_path_is_noticed_where_something_was_overwritten():
    network = network_of(Normalizing())
    electrodes = place(network, choose(sites_of(network), None))
    x = torch.randn(2, 3, 16, 16)
    network.module.way = "late"
    later: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        electrodes.show(x, lambda site, value: later.update({site.name: value.clone()}), normalize_and_rectify)
    assert later["pool"].isnan().all()  # no number that could be taken for a response
    network.module.way = "elsewhere"
    with torch.no_grad(), pytest.raises(BadInput, match="elsewhere than before"):
        electrodes.show(x, lambda *_: None, normalize_and_rectify)
    assert not any("forward" in vars(part) for part in network.module.modules())
