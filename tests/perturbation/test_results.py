"""What a condition did to each image, by hand."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from unitscope.perturbation.conditions import Condition
from unitscope.perturbation.results import Predictions, Result


def test_each_image_is_held_against_its_own_intact_answer() -> None:
    before = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.0, 0.0]], dtype=torch.float64)
    after = torch.tensor([[0.0, 1.0, -1.0], [0.0, 2.0, 1.0]], dtype=torch.float64)
    codes = torch.tensor([0, 1])
    intact, disturbed = Predictions.of(before, codes), Predictions.of(after, codes)
    result = Result(Condition(), 1)
    result.add_predictions(0, intact, disturbed, [])
    result.finish_part(intact, np.zeros(2, np.int64), np.arange(2), ["a", "b"])
    p, q = (logits.softmax(1).numpy() for logits in (before, after))
    np.testing.assert_allclose(result["kl"], stats.entropy(p, q, axis=1))
    np.testing.assert_allclose(result["loss"], [np.log(p[0, 0] / q[0, 0]), np.log(p[1, 1] / q[1, 1])])
    assert result["top1"].tolist() == [-1, 1]
    assert result["flips"].tolist() == [1, 1]
