"""Results left blank: the same fields as with everything computed, and no memory for what nobody reads."""

from __future__ import annotations

import random
import resource
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.anatomy.graphs import STEPS, Scripted, random_step
from unitscope.anatomy import shape_only
from unitscope.anatomy.program_cache import KEPT
from unitscope.anatomy.sites import sites
from unitscope.vocabulary import Site


def found(module: nn.Module, size: tuple[int, int] = (20, 17)) -> dict[str, Site]:
    return sites(SimpleNamespace(module=module.eval(), size=size, inputs=3))


@pytest.mark.parametrize("seed", [3, 4, 9, 12, 18])
def test_fields_do_not_depend_on_what_is_left_blank(seed: int, monkeypatch: pytest.MonkeyPatch):
    chance = random.Random(seed)
    module = Scripted([random_step(chance, [*STEPS, *["conv"] * 6]) for _ in range(6)])
    plain = found(module)
    left_blank: list[str] = []
    blank = shape_only.zeros
    monkeypatch.setattr(shape_only, "LARGE", 1)
    monkeypatch.setattr(shape_only, "zeros", lambda *facts: left_blank.append("") or blank(*facts))
    KEPT.clear()  # it is recorded again
    other = found(module)
    assert left_blank
    assert list(plain) == list(other)
    for name, site in plain.items():
        assert (site.fields, site.groups, site.lattice) == (other[name].fields, other[name].groups, other[name].lattice)
        for side in ("top", "left", "bottom", "right"):
            np.testing.assert_array_equal(getattr(site.bounds, side), getattr(other[name].bounds, side))


class Attention(nn.Module):
    """Every pixel attends to every pixel: 4,096 x 4,096 numbers per stimulus and copy."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = (x + x.mean((2, 3), keepdim=True)).flatten(2).transpose(1, 2)
        for _ in range(8):
            tokens = (tokens @ tokens.transpose(1, 2) * 0.1).softmax(-1) @ tokens
        return tokens


def test_what_nobody_reads_takes_no_memory():
    module = Attention()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    site = found(module, (64, 64))["matmul_1"]
    assert site.field().status == "whole image"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 130_000  # kB; one of the maps has 134 MB


def test_blanks_are_zeros_of_any_shape_stride_and_kind():
    for dtype in (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool):
        value = shape_only.zeros((3, 0, 5), (0, 0, 1), dtype, torch.device("cpu"))
        assert (value.shape, value.dtype) == ((3, 0, 5), dtype)
        value = shape_only.zeros((300, 200), (1, 300), dtype, torch.device("cpu"))
        assert (value.shape, value.stride(), value.dtype) == ((300, 200), (1, 300), dtype)
        assert not value.any()
