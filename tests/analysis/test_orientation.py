"""What gratings say of units whose nature we know."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pandas import DataFrame

from tests.analysis.laboratory import session_of
from tests.wiring import dead_network, gabor, gabor_network, wired
from unitscope.analysis.orientation import hinge, naka_rushton, orientation_table, power
from unitscope.analysis.tuning_curves import harmonics
from unitscope.anatomy.sites import sites
from unitscope.networks import Network
from unitscope.stimuli.gratings import draw_stimulus, make_product

ANGLES = [15.0 * number + 3.7 for number in range(12)]


@pytest.fixture(scope="module")
def bank() -> DataFrame:
    return orientation_table([session_of(gabor_network(ANGLES))])


def test_a_bank_of_gabors_is_recovered_within_a_tenth_of_a_degree(bank: DataFrame) -> None:
    error = (bank["preferred_orientation"] - np.array(ANGLES) + 90) % 180 - 90
    assert float(error.abs().max()) < 0.1


def test_frequency_is_recovered_within_two_percent(bank: DataFrame) -> None:
    assert bank["preferred_frequency"].to_numpy() == pytest.approx(0.15, rel=0.02)


@pytest.mark.parametrize("phase", [0.0, 70.0, 200.0])
def test_phase_is_recovered(phase: float) -> None:
    network = wired(gabor(40.0, frequency=0.15, phase=phase)[None], name="one")
    found = orientation_table([session_of(network)])
    assert (float(found["preferred_phase"][0]) - phase + 180) % 360 - 180 == pytest.approx(0, abs=2.0)


def test_rectified_linear_units_are_simple(bank: DataFrame) -> None:
    assert bank["f1_f0"].to_numpy() == pytest.approx(np.pi / 2, abs=0.01)
    assert bank["simple"].all()
    assert bank["responsive"].all()
    assert bank["reliability"].to_numpy() == pytest.approx(1, abs=1e-3)
    assert bank["plaid_ratio"].to_numpy() == pytest.approx(1, abs=1e-3)


def test_the_interval_holds_the_value(bank: DataFrame) -> None:
    selectivity = bank["orientation_selectivity"]
    assert (bank["orientation_selectivity_low"] <= selectivity + 1e-9).all()
    assert (selectivity <= bank["orientation_selectivity_high"] + 1e-9).all()


def test_the_response_of_a_linear_unit_is_its_fourier_transform() -> None:
    """F1 of a linear unit is contrast times gray times |transform of the kernel|, to 1e-6."""
    generator = torch.Generator().manual_seed(0)
    kernels = torch.randn(4, 3, 9, 9, generator=generator) / 81
    session = session_of(wired(kernels, [5.0] * 4, name="linear", size=24))
    grid = session.grid("orientation", "orientation", "frequency", "phase")
    found = harmonics(grid.rates)
    rows, cols = np.mgrid[-4:5, -4:5]
    for o, degrees in enumerate(grid.values["orientation"]):
        angle = np.radians(degrees)
        across = -rows * np.cos(angle) - cols * np.sin(angle)
        for f, frequency in enumerate(grid.values["frequency"]):
            wave = np.exp(2j * np.pi * frequency * across)
            expected = 0.5 * np.abs((kernels.double().numpy() * wave).sum((1, 2, 3)))
            assert found.f1[o, f] == pytest.approx(expected, abs=1e-6)


def difference_of_gaussians(side: int = 25, *, surround: float) -> torch.Tensor:
    """Centers of 1.5, surrounds of 4 pixels; with `surround` 1 without any response to uniform light."""
    axis = torch.arange(side, dtype=torch.float64) - side // 2
    square = axis[:, None] ** 2 + axis[None, :] ** 2
    center, around = (torch.exp(-square / (2 * s**2)) / (2 * np.pi * s**2) for s in (1.5, 4.0))
    return (center - surround * around).float().expand(3, side, side) / 3


def test_a_round_unit_has_no_orientation_and_the_suppression_of_its_integral() -> None:
    kernels = torch.stack([difference_of_gaussians(surround=0.9), difference_of_gaussians(surround=0.0)])
    network = wired(kernels, [5.0, 5.0], name="dog", size=40)
    session = session_of(network)
    found = orientation_table([session])
    assert float(found["orientation_selectivity"].max()) < 0.02
    assert float(found["suppression"][1]) < 1e-3  # a Gaussian alone
    grid = session.grid("size", "pair", "diameter", "phase")
    best = (session.stimuli["orientation"], session.stimuli["frequency"])
    places = session.where("size")
    pair = int(session.stimuli["pair"][places][0])
    first = places[session.stimuli["pair"][places] == pair][0]
    rows, cols = np.mgrid[-12:13, -12:13]
    angle = np.radians(best[0][first])
    wave = np.exp(2j * np.pi * best[1][first] * (-rows * np.cos(angle) - cols * np.sin(angle)))
    kernel = difference_of_gaussians(surround=0.9).double().numpy().sum(0)
    for number, diameter in enumerate(grid.values["diameter"]):
        inside = np.hypot(rows, cols) <= diameter / 2
        expected = 0.5 * np.abs((kernel * wave * inside).sum())
        assert float(harmonics(grid.rates[0, number]).f1[0]) == pytest.approx(expected, abs=1e-5)


def test_a_rectified_linear_unit_answers_to_contrast_along_a_bent_line(bank: DataFrame) -> None:
    assert bank["contrast_straight"].to_numpy() == pytest.approx(1, abs=1e-3)
    assert not bank["contrast_saturates"].any()
    assert bank["contrast_half"].isna().all()


def test_a_saturating_curve_is_told_from_a_line() -> None:
    contrasts = np.array([0.05, 0.1, 0.2, 0.3, 0.5, 0.65, 0.8, 1.0])
    saturating = (contrasts**2 / (contrasts**2 + 0.3**2))[:, None]
    half, exponent, explained = naka_rushton(contrasts, saturating)
    assert float(half[0]) == pytest.approx(0.3, rel=0.05)
    assert float(exponent[0]) == pytest.approx(2, abs=0.11)
    assert float(explained[0]) > 0.999
    assert float(hinge(contrasts, saturating)[0]) < 0.95
    bent = np.maximum(contrasts - 0.2, 0)[:, None]
    assert float(hinge(contrasts, bent)[0]) == pytest.approx(1, abs=1e-6)


def test_units_that_gratings_do_not_drive_have_no_numbers() -> None:
    found = orientation_table([session_of(dead_network())])
    assert found["responsive"].tolist() == [True, False, False, False]
    numbers = found.drop(columns=["unit", "site", "channel", "responsive"])
    assert numbers.iloc[1:].isna().all(axis=None)


def test_the_rectified_site_and_its_preactivation_say_the_same() -> None:
    """Pre-activations are rectified when they are read as rates; what comes behind the ReLU is taken as it is."""
    network = gabor_network([20.0, 77.0])
    before, after = (orientation_table([session_of(network, site)]) for site in ("conv1", "relu"))
    for name in ("preferred_orientation", "orientation_selectivity", "f1_f0"):
        assert before[name].to_numpy() == pytest.approx(after[name].to_numpy(), rel=1e-5)


def test_every_number_has_an_interval_that_holds_it(bank: DataFrame) -> None:
    for name in ("orientation_selectivity", "bandwidth", "preferred_frequency", "f1_f0", "suppression"):
        value, low, high = (bank[name + end].to_numpy() for end in ("", "_low", "_high"))
        assert (low <= value + 0.02).all(), name
        assert (value - 0.02 <= high).all(), name
        assert np.isfinite(low).all(), name
    assert bank["simple_agreement"].to_numpy() == pytest.approx(1)


class Energy(torch.nn.Module):
    """The sum of the squares of two Gabor units a quarter of a cycle apart: the energy model of a complex cell."""

    def __init__(self, orientation: float) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 2, 15, bias=False, padding=7)
        pair = [gabor(orientation, phase=phase) for phase in (0.0, 90.0)]
        self.conv1.weight.data.copy_(torch.stack(pair))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.conv1(pictures).square().sum(1, keepdim=True)


def test_an_energy_unit_is_complex_and_has_no_direction() -> None:
    network = Network(Energy(50.0), size=32, mean=(0, 0, 0), std=(1, 1, 1), name="energy")
    session = session_of(network, "sum")
    found = orientation_table([session])
    assert float(found["f1_f0"][0]) < 0.02
    assert not found["simple"][0]
    assert float(found["preferred_orientation"][0]) == pytest.approx(50.0, abs=0.5)
    assert not found["contrast_saturates"][0]  # it accelerates
    rates = session.gratings.rates
    forth, back = harmonics(rates), harmonics(rates[:, :, ::-1])
    assert forth.f0 == pytest.approx(back.f0)
    assert forth.f1 == pytest.approx(back.f1)


class Surround(torch.nn.Module):
    """An energy unit less half of the mean of eight like it, six pixels away on all sides."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = Energy(60.0)
        self.pool = torch.nn.Conv2d(1, 1, 3, dilation=6, padding=6, bias=False)
        weights = torch.full((3, 3), -0.5 / 8)
        weights[1, 1] = 1.0
        self.pool.weight.data.copy_(weights)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.pool(self.energy(pictures)).relu()


def test_a_planted_surround_is_measured_as_full_pictures_say() -> None:
    network = Network(Surround(), size=48, mean=(0, 0, 0), std=(1, 1, 1), name="surround")
    session = session_of(network, "relu")
    found = orientation_table([session])
    (orientation,), (frequency,) = session.best_pairs
    diameters = session.grid("size", "pair", "diameter", "phase").values["diameter"]
    phases = np.arange(16) * 22.5
    patches = make_product("s", orientation=orientation, frequency=frequency, diameter=diameters, phase=phases)
    center = sites(network)["relu"].box(24, 24)
    middle = ((center.top + center.bottom - 1) / 2, (center.left + center.right - 1) / 2)
    with torch.no_grad():
        shown = network.module(draw_stimulus(patches, (48, 48), center=middle))[:, 0, 24, 24]
    expected = shown.reshape(len(diameters), -1).mean(1).numpy()
    suppression = float(1 - expected[-1] / expected.max())
    assert suppression > 0.3
    assert float(found["suppression"][0]) == pytest.approx(suppression, abs=1e-3)
    assert float(found["preferred_size"][0]) == diameters[(expected >= 0.95 * expected.max()).argmax()]


def test_a_curve_that_accelerates_is_no_saturating_one() -> None:
    contrasts = np.array([0.05, 0.1, 0.2, 0.3, 0.5, 0.65, 0.8, 1.0])
    curves = np.stack([contrasts**2, contrasts**2 / (contrasts**2 + 0.3**2)], axis=1)
    assert float(power(contrasts, curves)[0]) == pytest.approx(1)
    assert float(power(contrasts, curves)[1]) < float(naka_rushton(contrasts, curves)[2][1]) - 1e-2


@pytest.mark.parametrize("highest", [1.0, 0.5, 0.1])
def test_a_hinge_is_found_also_where_no_contrast_reaches_the_highest_thresholds(highest):
    contrasts = np.geomspace(highest / 32, highest, 8)
    bent = np.maximum(contrasts - 0.02, 0)[:, None]
    assert float(hinge(contrasts, bent)[0]) == pytest.approx(1, abs=1e-6)
