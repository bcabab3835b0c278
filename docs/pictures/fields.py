"""Draws the receptive fields in `docs/concepts/receptive-fields.md`, and writes its table of centers.

`python docs/pictures/fields.py` puts four pictures into `docs/images` and the table beside the page.
"""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from unitscope.anatomy.sites import sites
from unitscope.residual import resnet
from unitscope.vocabulary import Box, Site, Size

DOCS = Path(__file__).resolve().parents[1]
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Colors that are told apart without red and green (Okabe and Ito)."""


def sites_of(module: nn.Module, size: int) -> dict[str, Site]:
    return sites(SimpleNamespace(module=module.eval(), size=(size, size), inputs=3))


# drawing


def figure(panels: int = 1) -> tuple[Figure, list[Axes]]:
    drawn = Figure(figsize=(3.4 * panels, 4), layout="constrained")
    return drawn, list(drawn.subplots(1, panels, squeeze=False)[0])


def frame(axes: Axes, size: Size, *, margin: float = 0.04, grid: int | None = None) -> None:
    """The picture's outline, in pixels, rows downward."""
    height, width = size
    axes.add_patch(Rectangle((0, 0), width, height, facecolor="#eeeeee", edgecolor="black", linewidth=1.2))
    if grid:
        axes.vlines(range(grid, width, grid), 0, height, color="white", linewidth=0.6, zorder=1)
        axes.hlines(range(grid, height, grid), 0, width, color="white", linewidth=0.6, zorder=1)
    axes.set(xlim=(-margin * width, (1 + margin) * width), ylim=((1 + margin) * height, -margin * height))
    axes.set_aspect("equal")
    axes.tick_params(labelsize=7)
    axes.spines[:].set_visible(False)


def draw(axes: Axes, box: Box, text: str, color: str, *, filled: bool = True) -> None:
    """A box; dashed and empty where it is not what the neuron sees."""
    style = {"facecolor": color + "30"} if filled else {"fill": False, "linestyle": "--"}
    place = (box.left, box.top), box.width, box.height
    axes.add_patch(Rectangle(*place, edgecolor=color, linewidth=1.4, zorder=3, label=text or None, **style))


def save(drawn: Figure, name: str) -> None:
    for axes in drawn.axes:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), frameon=False, fontsize=8, handlelength=1.2)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        drawn.savefig(DOCS / "images" / f"{name}.svg", metadata={"Date": None})


# the four pictures


def center(found: dict[str, Site]) -> None:
    """Neurons at the center of four sites of ResNet34."""
    drawn, (axes,) = figure()
    frame(axes, (224, 224))
    names = ("layer2.3.relu_1", "layer2.0.relu_1", "layer1.2.relu_1", "maxpool")
    for name, color in zip(names, COLORS, strict=True):
        site = found[name]
        draw(axes, site.box(*site.center), f"{name}: {site.field()}", color)
    save(drawn, "fields-center")


def border(found: dict[str, Site]) -> None:
    """Neurons at the corner and at the edge: the box, dashed, and what they see of the picture."""
    drawn, (axes,) = figure()
    frame(axes, (224, 224), margin=0.24)
    site = found["layer1.2.relu_1"]
    for (row, col), color in zip([(0, 0), (30, 55), (28, 20)], COLORS, strict=False):
        box = site.box(row, col)
        draw(axes, box.clip(site.picture), f"neuron {row},{col}", color)
        draw(axes, box, "", color, filled=False)
    save(drawn, "fields-border")


class Inception(nn.Module):
    """Four branches side by side, as in GoogLeNet, two channels each, behind a convolution with stride 2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 2, 3, stride=2, padding=1)
        self.one, self.three, self.five = (nn.Conv2d(2, 2, k, padding=k // 2) for k in (1, 3, 5))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(2, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


def branches() -> None:
    """The same position in four channels of one site."""
    drawn, (axes,) = figure()
    site = sites_of(Inception(), 32)["cat"]
    frame(axes, site.picture, grid=1)
    for channels, color, branch in ((4, COLORS[0], "5 x 5"), (2, COLORS[1], "3 x 3 and pool"), (0, COLORS[2], "1 x 1")):
        text = f"{branch} branch: {site.field(channels)}"
        draw(axes, site.box(*site.center, channel=channels), text, color)
    save(drawn, "fields-branches")


class Gated(nn.Module):
    """Squeeze-and-excitation: each channel is scaled by a number between 0 and 1 taken from the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.squeeze = nn.Conv2d(3, 4, 7, padding=3), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y * self.squeeze(y.mean((2, 3), keepdim=True)).sigmoid()


def gates() -> None:
    """One neuron behind squeeze-and-excitation, with and without gating."""
    drawn, panels = figure(2)
    site = sites_of(Gated(), 32)["mul"]
    for axes, gating, color in zip(panels, (True, False), COLORS, strict=False):
        frame(axes, site.picture, margin=0.08, grid=1)
        field = site.field(gating=gating)
        status = field.status + (f" ({field.cause})" if field.cause else "")
        draw(axes, site.box(16, 16, gating=gating), f"{field}: {status}", color)
        axes.set_title("with gating" if gating else "without gating", fontsize=9)
    save(drawn, "fields-gates")


# the table

ALONG_RESNET34 = [
    ("conv1", 7, 2, 3), ("maxpool", 3, 2, 1),
    *((f"layer{stage}.{block}.conv{conv}", 3, 2 if stage > 1 and (block, conv) == (0, 1) else 1, 1)
      for stage, blocks in ((1, 3), (2, 4), (3, 6), (4, 3)) for block in range(blocks) for conv in (1, 2)),
]  # fmt: skip
"""Name, kernel, stride and padding of everything with a window, along the longest path."""

IN_TABLE = {
    "conv1": "conv1", "maxpool": "maxpool", "layer1.2.conv2": "layer1.2.relu_1", "layer2.3.conv2": "layer2.3.relu_1",
    "layer3.5.conv2": "layer3.5.relu_1", "layer4.2.conv2": "layer4.2.relu_1",
}  # fmt: skip


def centers_by_halving(size: int = 224) -> dict[str, float]:
    """Centers of neuron 0 as the paper's published code has them, in pixels from the picture's edge.

    It takes the padding that the windows need, (out - 1) stride - in + kernel, and puts half of it, rounded down, in
    front; the network has `padding` in front, whatever is left over behind.
    """
    at, jump, centers = 0.5, 1, {}
    for name, kernel, stride, padding in ALONG_RESNET34:
        out = (size + 2 * padding - kernel) // stride + 1
        needed = (out - 1) * stride - size + kernel
        at += ((kernel - 1) / 2 - needed // 2) * jump
        size, jump = out, jump * stride
        centers[name] = at
    return centers


def table(found: dict[str, Site]) -> None:
    theirs = centers_by_halving()
    with (DOCS / "concepts" / "centers.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["site", "size", "stride", "center here", "center in the paper's code", "apart"])
        for module, name in IN_TABLE.items():
            field = found[name].field()
            ours = field.center[0] + 0.5  # from the picture's edge, as theirs
            apart = theirs[module] - ours
            rows.writerow([f"`{name}`", field.size[0], field.stride[0], ours, theirs[module], f"{apart:+g}"])


def main() -> None:
    found = sites_of(resnet("resnet34", width=2), 224)
    center(found)
    border(found)
    branches()
    gates()
    table(found)


if __name__ == "__main__":
    main()
