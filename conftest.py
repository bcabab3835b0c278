"""What the examples in docstrings start from: a small network, photographs of two classes, and a record of both.

    network    a residual network with random weights, 4 channels in its first stage, shown 32 x 32 pixels
    images     a folder of 12 pictures of smooth noise in the folders "cat" and "dog"
    record     what a survey of the network with these images left

Each example runs in a folder of its own, with a copy of the record.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def surveyed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `images`, and with a record of them in `records/tiny`."""
    import numpy as np
    from PIL import Image

    import unitscope

    folder = tmp_path_factory.mktemp("examples")
    generator = np.random.default_rng(0)
    for number in range(12):
        path = folder / "images" / ("cat", "dog")[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = generator.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(small).resize((48, 48), Image.Resampling.BICUBIC).save(path)
    sites = ["maxpool", "layer1.*.add"]
    unitscope.survey(small_network(), folder / "images", to=folder / "records" / "tiny", sites=sites, top=4)
    return folder


def small_network() -> Any:
    import unitscope

    return unitscope.load("resnet18", size=32, width=4, classes=["cat", "dog"], seed=0)


@pytest.fixture(autouse=True)
def example(request: pytest.FixtureRequest) -> Iterator[None]:
    """For the example of a docstring: the names that it may use, and a folder in which it may write."""
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    import unitscope

    folder = request.getfixturevalue("tmp_path")
    shutil.copytree(request.getfixturevalue("surveyed"), folder, dirs_exist_ok=True)
    names = request.getfixturevalue("doctest_namespace")
    request.getfixturevalue("monkeypatch").chdir(folder)
    names["unitscope"] = unitscope
    names["network"], names["images"] = small_network(), Path("images")
    names["record"] = unitscope.open("records/tiny")
    yield
