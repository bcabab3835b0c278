"""What a condition does to responses."""

from __future__ import annotations

import pytest
import torch

from unitscope.perturbation.conditions import Condition, make_alteration


def added(dose: float) -> torch.Tensor:
    """What noise of a dose adds to two of three units, always from the same seed."""
    responses = torch.zeros(4, 3, 5, 5)
    make_alteration(Condition(dose=dose), [0, 2], generator=torch.Generator().manual_seed(0))(responses)
    return responses


@pytest.mark.parametrize("dose", [0.0, 0.1, 2.0])
def test_noise_is_multiplied_by_its_dose(dose: float) -> None:
    torch.testing.assert_close(added(dose), dose * added(1.0))
    assert (added(dose)[:, [0, 2]] > 0).any() == (dose > 0)
    assert (added(dose)[:, 1] == 0).all()
