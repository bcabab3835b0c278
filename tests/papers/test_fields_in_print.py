"""Receptive field sizes in print: araujo2019 (table), kobayashi2020 (section 3.4), He's and torchvision's networks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from torch import nn

from tests.conftest import needs
from unitscope.anatomy.sites import sites
from unitscope.residual import resnet
from unitscope.vocabulary import Site


def fields(module: nn.Module, size: int) -> dict[str, Site]:
    return sites(SimpleNamespace(module=module.eval(), size=(size, size), inputs=3))


def padding(site: Site) -> int:
    return -site.field().start[0]


@pytest.mark.parametrize("name", ["resnet34", "plainnet34"])
@pytest.mark.parametrize(("site", "size"), [("maxpool", 11), ("layer1.0.conv2", 27), ("layer1.2.conv2", 59)])
def test_sizes_of_kobayashi2020(name: str, site: str, size: int):
    """Section 3.4: 11 x 11 in the first max-pooling layer, 27 x 27 in layer 3, 59 x 59 in layer 7; the same for the
    plain twin.
    """
    assert fields(resnet(name, width=4), 224)[site].field().size == (size, size)


LAST = {"resnet18": "relu_1", "resnet34": "relu_1", "resnet50": "relu_2", "resnet101": "relu_2", "resnet152": "relu_2"}
LAYERS = [
    ("resnet18", {"layer1.1": (43, 21), "layer2.1": (99, 49), "layer3.1": (211, 105), "layer4.1": (435, 217)}),
    ("resnet50", {"layer1.2": (35, 17), "layer2.3": (91, 45), "layer3.5": (267, 133), "layer4.2": (427, 213)}),
    ("resnet101", {"layer3.22": (811, 405), "layer4.2": (971, 485)}),
    ("resnet152", {"layer2.7": (155, 77), "layer3.35": (1291, 645), "layer4.2": (1451, 725)}),
]


@pytest.mark.parametrize(("name", "layers"), LAYERS)
def test_sizes_and_paddings_of_residual_networks(name: str, layers: dict[str, tuple[int, int]]):
    found = fields(resnet(name, width=2), 64)
    have = {layer: found[f"{layer}.{LAST[name]}"] for layer in layers}
    assert {layer: (site.field().size[0], padding(site)) for layer, site in have.items()} == layers


TORCHVISION = [
    ("vgg16", 64, {"features.4": (6, 2, 2), "features.9": (16, 4, 6), "features.16": (44, 8, 18),
    "features.23": (100, 16, 42), "features.30": (212, 32, 90)}),
    ("alexnet", 96, {"features.0": (11, 4, 2), "features.2": (19, 8, None), "features.3": (51, 8, None),
    "features.6": (99, 16, None), "features.8": (131, 16, None), "features.10": (163, 16, None), "features.12": (195,
    32, 66)}),
    ("mobilenet_v2", 64, {"features.18.2": (491, 32, 245)}),
    (
        "inception_v3", 128,
        {
            "Conv2d_1a_3x3.relu": (3, 2, None), "Conv2d_2b_3x3.relu": (11, 2, None), "maxpool1": (15, 4, None),
            "Conv2d_4a_3x3.relu": (23, 4, None),
            "maxpool2": (31, 8, None), "Mixed_5b.cat": (63, 8, None), "Mixed_6e.cat": (927, 16, None),
            "Mixed_7a.cat": (1055, 32, None), "Mixed_7c.cat_2": (1311, 32, 618),
        },
    ),
    (
        "googlenet", 64,
        {
            "inception3a.cat": (43, 8, None), "inception3b.cat": (59, 8, None), "inception4a.cat": (107, 16, None),
            "inception4b.cat": (139, 16, None),
            "inception4c.cat": (171, 16, None), "inception4d.cat": (203, 16, None), "inception4e.cat": (235, 16,
            None), "inception5a.cat": (315, 32, None),
            "inception5b.cat": (379, 32, None),
        },
    ),
]  # fmt: skip


@needs("torchvision")
@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "wanted"), TORCHVISION, ids=[row[0] for row in TORCHVISION])
def test_sizes_strides_and_paddings_of_torchvision(name: str, size: int, wanted: dict):
    """Sizes and strides of araujo2019 where its padding is torchvision's (VGG16, Inception v3; AlexNet but for the
    padding).
    """
    import torchvision.models

    more = {"init_weights": False} if name in ("googlenet", "inception_v3", "vgg16") else {}

    module = getattr(torchvision.models, name)(weights=None, **more)
    found = fields(module, size)
    for site, (rows, stride, before) in wanted.items():
        field = found[site].field()
        assert (site, field.size, field.stride) == (site, (rows, rows), (stride, stride))
        assert before is None or padding(found[site]) == before, site
