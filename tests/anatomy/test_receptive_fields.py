"""Every neuron's field against the NaN oracle, which knows nothing of operations."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.anatomy.graphs import LOCAL, STEPS, Scripted, drawn, random_step
from tests.conftest import needs
from tests.oracles.blindness import disagreements
from unitscope.anatomy.sites import sites
from unitscope.residual import resnet
from unitscope.vocabulary import Site


def compared(module: nn.Module, size: tuple[int, int] = (64, 64)) -> tuple[int, dict[str, Site]]:
    """Neurons compared with the oracle; fails with the first differences."""
    found = sites(SimpleNamespace(module=module.eval(), size=size, inputs=3))
    count, lines = disagreements(module, size, found)
    assert lines == []
    return count, found


@pytest.mark.parametrize("name", ["resnet18", "plainnet18"])
def test_every_neuron_of_the_residual_network_and_its_plain_twin(name: str):
    count, found = compared(resnet(name, width=8))
    assert count > 50_000
    assert all(site.field().status in ("exact", "whole image") for site in found.values())


@pytest.mark.parametrize("seed", [0, 7])
def test_every_neuron_of_random_branched_networks(seed: int):
    module = drawn(seed, 12)
    kinds = {kind for kind, _ in module.steps}
    assert kinds & {"add", "cat"}
    count, _ = compared(module)
    assert count > 10_000


def test_groups_of_channels_keep_their_own_fields():
    """A convolution in two groups, of which the first reads a narrow branch and the second a wide one."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.narrow, self.wide = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 5, padding=2)
            self.groups = nn.Conv2d(4, 6, 3, padding=1, groups=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.groups(torch.cat([self.narrow(x), self.wide(x)], 1))

    _, found = compared(Branches(), (16, 16))
    assert [found["groups"].field(channel).size for channel in range(6)] == [(3, 3)] * 3 + [(7, 7)] * 3


@needs("torchvision")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "shufflenet_v2_x0_5"])
def test_every_neuron_of_concatenating_and_shuffling_networks(name: str):
    check_torchvision(name, 64)


@needs("torchvision")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_1", "efficientnet_b0", "mnasnet0_5", "convnext_tiny"])
def test_every_neuron_of_small_pictures_in_torchvision_networks(name: str):
    check_torchvision(name, 32)


def check_torchvision(name: str, size: int) -> None:
    import torchvision.models

    more = {"init_weights": False} if name == "googlenet" else {}
    count, _ = compared(getattr(torchvision.models, name)(weights=None, **more), (size, size))
    assert count > 10_000


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 8),
    rows=st.integers(9, 22),
    cols=st.integers(9, 22),
    local=st.booleans(),
)
def test_random_graphs_of_all_operations(seed: int, count: int, rows: int, cols: int, local: bool):
    chance = random.Random(seed)
    kinds = LOCAL if local else [*STEPS, *["conv"] * 6]
    module = Scripted([random_step(chance, kinds) for _ in range(count)])
    try:
        with torch.no_grad():
            module(torch.zeros(1, 3, rows, cols))
    except (RuntimeError, ValueError):  # a window larger than what is left
        assume(False)
    _, found = compared(module, (rows, cols))
    mirrored = any(facts.get("how") in ("reflect", "replicate") for _, facts in module.steps)
    plain = local and not any(kind in ("pad", "crop") for kind, _ in module.steps)
    for site in found.values():
        agrees_with_its_rule(site, contains=not mirrored, interior=plain)


def agrees_with_its_rule(site: Site, *, contains: bool, interior: bool) -> None:
    """What a neuron sees lies in its field, unless it sees a mirror image; with windows only, inner neurons see all of
    it.
    """
    for channel in range(min(site.channels, 3)):
        field = site.field(channel)
        for row, col in {(0, 0), site.center, (site.lattice[0] - 1, site.lattice[1] - 1)}:
            rule, exact = field.box(row, col), site.bounds.at(channel, row, col)
            box = site.box(row, col, channel)
            assert box.clip(site.picture) == exact
            if contains and exact.height and exact.width:
                clipped = rule.clip(site.picture)
                assert all(a <= b for a, b in zip(clipped[:2], exact[:2], strict=True)), (site.name, rule, exact)
                assert all(a >= b for a, b in zip(clipped[2:], exact[2:], strict=True)), (site.name, rule, exact)
            if interior and field.status == "exact" and rule == rule.clip(site.picture):
                assert exact == rule


def test_the_oracle_itself_on_a_network_whose_fields_are_plain():
    module = nn.Sequential(nn.Conv2d(3, 1, 3, stride=2, padding=1))
    from tests.oracles.blindness import seen_by

    found = sites(SimpleNamespace(module=module.eval(), size=(8, 8), inputs=3))
    truth = seen_by(module.double(), (8, 8), found)["0"]
    np.testing.assert_array_equal(truth[0, 0, :, 0], [0, 1, 3, 5])
    np.testing.assert_array_equal(truth[1, 0, :, 0], [1, 3, 5, 7])


class InOneDimension(nn.Module):
    """Convolutions along what is left when columns are pooled away."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.along = nn.Conv1d(2, 2, 3, stride=2, dilation=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.along(self.conv(x).mean(3).relu())


class InThreeDimensions(nn.Module):
    """Channels as a third dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Conv3d(1, 2, (3, 2, 4), padding=(0, 1, 0))
        self.conv = nn.Conv2d(2, 2, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.deep(x.unsqueeze(1)).squeeze(2))


@pytest.mark.parametrize(("kind", "last"), [(InOneDimension, (7, 14)), (InThreeDimensions, (4, 6))])
def test_convolutions_in_one_and_three_dimensions(kind: type[nn.Module], last: tuple[int, int]):
    count, found = compared(kind(), (16, 14))
    assert count > 50
    site = list(found.values())[-1]
    assert (site.field().size, site.field().status) == (last, "exact")


def test_windows_over_flattened_pixels_are_boxes_that_hold_them():
    """Three pixels in a row of a flattened picture may be the end of one row and the beginning of the next."""

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.along = nn.Conv1d(3, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.along(x.flatten(2))

    _, found = compared(Flat(), (6, 5))
    assert found["along"].field().status == "upper bound"
    assert found["along"].box(1, 0) == (0, 1, 1, 4)
    assert found["along"].box(4, 0) == (0, 0, 2, 5)


@pytest.mark.filterwarnings("ignore")
def test_compiled_modules_are_looked_into():
    def plain() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3, stride=2))

    for module in (
        torch.compile(plain(), backend="eager"),
        nn.Sequential(torch.compile(plain(), backend="eager"), nn.Conv2d(2, 2, 3)),
    ):
        _, found = compared(module, (14, 13))
        assert next(site for site in found.values() if site.operation == "relu").field().size == (3, 3)
