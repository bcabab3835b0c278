"""Ascents, step by step, against their formulas."""

from __future__ import annotations

import torch

from unitscope.synthesis.ascents import Adam, MeanNormalized, Steepest, norms


def draw_numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_steps_relative_to_the_parameters_shrink_from_the_first_to_the_last() -> None:
    parameters, gradient = draw_numbers(2, 3, 4, 4), draw_numbers(2, 3, 4, 4, seed=1)
    ascent = Steepest(first=1.0, last=0.25, steps=3)
    for number, length in enumerate((1.0, 0.5, 0.25)):
        moved = ascent.step(parameters, gradient, None, number) - parameters
        torch.testing.assert_close(moved, length * norms(parameters) / norms(gradient) * gradient)


def test_an_ascent_is_stable_where_a_window_of_steps_gained_less_than_its_share() -> None:
    ascent = MeanNormalized(window=2, gain=0.1)
    rising, level, falling = (1.0, 1.5, 2.0), (1.0, 1.2, 1.05), (-1.0, -1.1, -1.2)
    responses = [torch.tensor(step) for step in zip(rising, level, falling, strict=True)]
    assert ascent.stable(responses[:2]) is None
    stable = ascent.stable(responses)
    assert stable is not None
    assert stable.tolist() == [False, True, True]


def test_adam_climbs_as_torchs_own_descends_weight_decay_included() -> None:
    """Toward a target, with a decay so strong that its sign decides where the ascent ends."""
    target = draw_numbers(2, 3, 4, 4)
    parameters, theirs = draw_numbers(2, 3, 4, 4, seed=1), draw_numbers(2, 3, 4, 4, seed=1).requires_grad_()
    ascent, adam = Adam(lr=0.1, weight_decay=0.5), torch.optim.Adam([theirs], lr=0.1, weight_decay=0.5)
    state = ascent.begin(parameters)
    for number in range(20):
        parameters = ascent.step(parameters, target - parameters, state, number)
        adam.zero_grad()
        ((theirs - target) ** 2 / 2).sum().backward()
        adam.step()
    torch.testing.assert_close(parameters, theirs.detach())
