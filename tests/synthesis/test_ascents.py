"""Ascents, step by step, against their formulas."""

from __future__ import annotations

import torch

from unitscope.synthesis.ascents import MeanNormalized, Steepest, lengths


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_steps_relative_to_the_parameters_shrink_from_the_first_to_the_last() -> None:
    parameters, gradient = drawn(2, 3, 4, 4), drawn(2, 3, 4, 4, seed=1)
    ascent = Steepest(first=1.0, last=0.25, steps=3)
    for number, length in enumerate((1.0, 0.5, 0.25)):
        moved = ascent.step(parameters, gradient, None, number) - parameters
        torch.testing.assert_close(moved, length * lengths(parameters) / lengths(gradient) * gradient)


def test_an_ascent_is_stable_where_a_window_of_steps_gained_less_than_its_share() -> None:
    ascent = MeanNormalized(window=2, gain=0.1)
    rising, level, falling = (1.0, 1.5, 2.0), (1.0, 1.2, 1.05), (-1.0, -1.1, -1.2)
    responses = [torch.tensor(step) for step in zip(rising, level, falling, strict=True)]
    assert ascent.stable(responses[:2]) is None
    stable = ascent.stable(responses)
    assert stable is not None
    assert stable.tolist() == [False, True, True]
