"""The checker of signatures refuses what the annotations exclude, and lets pass what they allow."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.checking import CheckingLoader

pytestmark = pytest.mark.skipif(
    os.environ.get("UNITSCOPE_UNCHECKED", "") not in ("", "0"), reason="the checker is switched off"
)

MODULE = """
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING
from jaxtyping import Float
from torch import Tensor
if TYPE_CHECKING:
    from nowhere import Unknown

@dataclass(frozen=True)
class Pair:
    low: int
    high: float

def add(a: Float[Tensor, "unit"], b: Float[Tensor, "unit"]) -> Float[Tensor, "unit"]:
    return a + b

def count(values: list[int]) -> int:
    return sum(values)

def lie() -> int:
    return "three"

def pass_on(value: Unknown) -> Unknown:
    return value
"""


@pytest.fixture
def module(tmp_path: Path) -> ModuleType:
    path = tmp_path / "checked_module.py"
    path.write_text(MODULE)
    spec = importlib.util.spec_from_loader("checked_module", CheckingLoader("checked_module", str(path)))
    assert spec is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules["checked_module"] = found
    spec.loader.exec_module(found)
    yield found
    del sys.modules["checked_module"]


def test_what_the_annotations_allow_passes(module):
    assert module.add(torch.ones(3), torch.ones(3)).tolist() == [2, 2, 2]
    assert (module.count([1, 2]), module.pass_on("anything")) == (3, "anything")
    assert module.Pair(1, 2).high == 2  # int where float is asked for


@pytest.mark.parametrize(
    "call",
    [
        lambda module: module.add(torch.ones(3), torch.ones(4)),  # one axis has two lengths
        lambda module: module.add(torch.ones(3, dtype=torch.int64), torch.ones(3)),
        lambda module: module.count("12"),
        lambda module: module.lie(),
        lambda module: module.Pair("1", 2.0),
    ],
)
def test_what_the_annotations_exclude_is_refused(module, call):
    with pytest.raises(Exception, match=r"[Tt]ype"):
        call(module)
