"""The measures of kobayashi2020's sentences on pictures whose nature we know."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from unitscope.reproductions.kobayashi2020_sentences import (
    breadth,
    differences_verdict,
    resemblance,
    resemblance_verdict,
    varieties,
)


def test_optima_that_are_the_means_resemble_them_and_strangers_do_so_by_chance() -> None:
    rng = np.random.default_rng(0)
    means = rng.standard_normal((8, 3, 6, 6))
    own, other, p = resemblance(means + rng.standard_normal(means.shape), means, rng=rng)
    assert own > 0.5 > 0.1 > other
    assert p == pytest.approx(0.001)
    by_chance = [resemblance(rng.standard_normal(means.shape), means, rng=rng)[2] for _ in range(60)]
    assert stats.kstest(by_chance, "uniform").pvalue > 0.01


def test_breadth_is_the_share_of_coarse_waves() -> None:
    at = np.arange(24) / 24
    coarse, fine = (np.tile(np.cos(2 * np.pi * cycles * at), (3, 24, 1)) for cycles in (2, 5))
    assert breadth(coarse + 7) == pytest.approx(1)
    assert breadth(fine) == pytest.approx(0)
    assert breadth(coarse + 3 * fine.transpose(0, 2, 1)) == pytest.approx(0.1)
    assert np.isnan(breadth(np.ones((3, 8, 8))))


def test_variety_is_0_for_copies_and_1_for_patches_of_no_unit() -> None:
    rng = np.random.default_rng(0)
    templates = rng.standard_normal((4, 10, 10, 3))
    copies = [[template] * 5 for template in templates]
    assert varieties(copies) == pytest.approx(np.zeros(4))
    strangers = [list(rng.standard_normal((5, 10, 10, 3))) for _ in range(4)]
    assert varieties(strangers) == pytest.approx(np.ones(4), abs=0.05)
    between = [[template + rng.standard_normal(template.shape) for _ in range(5)] for template in templates]
    expected = (1 - 0.75 / 1.7) / (1 + 0.25 / 1.7)  # of variances 1 and 1, less the mean of 4 templates and 20 patches
    assert varieties(between).mean() == pytest.approx(expected, abs=0.04)
    assert len(varieties(copies[:1])) == 0


def test_a_wide_interval_is_no_agreement() -> None:
    nan = float("nan")
    assert differences_verdict([(0.3, 0.1, 0.5), (0.2, 0.1, 0.3)]) == "as the paper says"
    assert differences_verdict([(0.3, 0.1, 0.5), (0.2, -0.1, 0.3)]) == "in 1 of 2 layers"
    assert differences_verdict([(0.3, -0.1, 0.5)]) == "cannot be told: intervals hold 0"
    assert differences_verdict([(-0.3, -0.5, -0.1)]) == "the opposite"
    assert differences_verdict([(0.3, nan, nan)]) == differences_verdict([]) == "cannot be told: too few channels"
    assert resemblance_verdict([0.3, 0.2]) == "as the paper says"
    assert resemblance_verdict([0.3, 0.05, 0.0]) == "clearly in 1 of 3 layers, by a trace (less than 0.1) in 1"
    assert resemblance_verdict([0.0]) == "no more than by chance"
