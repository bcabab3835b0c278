"""The residual networks of He et al. (he2016), and the plain twin that kobayashi2020 compares them with, at any depth
and width.

Parameter names equal torchvision's, so that checkpoints load strictly in both directions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from unitscope.errors import BadInput, unknown_name


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions; what came in is added before the last ReLU, unless the block is `plain`."""

    expansion = 1

    def __init__(self, inputs: int, width: int, *, stride: int = 1, plain: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None if plain else projection(inputs, width * self.expansion, stride=stride)
        self.plain = plain

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if not self.plain:
            out += identity if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (which carries the stride, as in torchvision), 1 x 1 convolutions; skipped over unless `plain`."""

    expansion = 4

    def __init__(self, inputs: int, width: int, *, stride: int = 1, plain: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None if plain else projection(inputs, width * self.expansion, stride=stride)
        self.plain = plain

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if not self.plain:
            out += identity if self.downsample is None else self.downsample(x)
        return self.relu(out)


def projection(inputs: int, outputs: int, *, stride: int) -> nn.Sequential | None:
    """The 1 x 1 convolution of a skip whose ends differ in shape (he2016, option B), or None where they agree."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """A residual network, or with `plain` its twin without skips and down-sampling convolutions (kobayashi2020,
    section 3.1).
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        *,
        plain: bool = False,
        width: int = 64,
        classes: int = 1000,
        inputs: int = 3,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        reading = width
        for stage, depth in enumerate(depths):
            blocks = []
            for number in range(depth):
                stride = 2 if stage > 0 and number == 0 else 1
                blocks.append(block(reading, width * 2**stage, stride=stride, plain=plain))
                reading = width * 2**stage * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(reading, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


DEPTHS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    "18": (BasicBlock, (2, 2, 2, 2)),
    "34": (BasicBlock, (3, 4, 6, 3)),
    "50": (Bottleneck, (3, 4, 6, 3)),
    "101": (Bottleneck, (3, 4, 23, 3)),
    "152": (Bottleneck, (3, 8, 36, 3)),
}
RESIDUAL_NAMES = tuple(f"{kind}{depth}" for kind in ("resnet", "plainnet") for depth in DEPTHS)


def resnet(name: str, *, width: int = 64, classes: int = 1000, inputs: int = 3) -> ResNet:
    """One of resnet18/34/50/101/152, or plainnet18/34/50/101/152, with random weights.

    `width` is the number of channels of the first stage (64 in he2016), `inputs` that of the pictures. Raises
    UnknownName, and BadInput for numbers below 1.
    """
    if name not in RESIDUAL_NAMES:
        raise unknown_name(
            "network", name, RESIDUAL_NAMES, where="unitscope", advice=f"There are {', '.join(RESIDUAL_NAMES)}."
        )
    for what, number in {"width": width, "classes": classes, "inputs": inputs}.items():
        if not isinstance(number, int) or number < 1:
            raise BadInput(f"{name} was asked for with {what}={number!r}; expected a whole number of at least 1.")
    block, depths = DEPTHS[name.removeprefix("plain").removeprefix("res").removeprefix("net")]
    return ResNet(block, depths, plain=name.startswith("plain"), width=width, classes=classes, inputs=inputs)


def find_architecture(state: Mapping[str, Tensor]) -> str | None:
    """Which of our own networks weights of these names belong to, or None."""
    blocks = [re.fullmatch(r"layer([1-4])\.\d+\.conv1\.weight", name) for name in state]
    stages = [match[1] for match in blocks if match]
    shape = (
        Bottleneck if "layer1.0.conv3.weight" in state else BasicBlock,
        tuple(stages.count(stage) for stage in "1234"),
    )
    depth = next((depth for depth, known in DEPTHS.items() if known == shape), None)
    if depth is None or not {"conv1.weight", "fc.weight"} <= set(state):
        return None
    return f"{'resnet' if any('.downsample.' in name for name in state) else 'plainnet'}{depth}"
