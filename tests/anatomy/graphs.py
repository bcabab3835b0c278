"""Random networks for property tests: a list of steps, drawn by hypothesis or by a seed, run one after the other."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Step = tuple[str, dict]


class Scripted(nn.Module):
    """Runs `steps`; two values are kept, `x` and an older one that branches start from."""

    def __init__(self, steps: Sequence[Step], *, inputs: int = 3) -> None:
        super().__init__()
        self.steps = list(steps)
        self.weights = nn.ParameterList()
        self.inputs = inputs
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        older = x
        for kind, facts in self.steps:
            x, older = STEPS[kind](x, older, **facts)
        return x


def weight(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def conv(x: Tensor, older: Tensor, *, out=4, kernel=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1):
    groups = groups if x.shape[1] % groups == 0 else 1
    dilation = tuple(
        d if d * (k - 1) < n + 2 * p else 1 for d, k, n, p in zip(dilation, kernel, x.shape[2:], padding, strict=True)
    )
    kernel = tuple(min(k, n + 2 * p) for k, n, p in zip(kernel, x.shape[2:], padding, strict=True))
    shape = (out * groups, x.shape[1] // groups, *kernel)
    return F.conv2d(x, weight(*shape, dtype=x.dtype), None, stride, padding, dilation, groups), older


def conv_transpose(x, older, *, out=3, kernel=3, stride=2, padding=1, output_padding=0, dilation=1):
    padding = min(padding, dilation * (kernel - 1))
    output_padding = min(output_padding, max(stride, dilation) - 1)
    w = weight(x.shape[1], out, kernel, kernel, dtype=x.dtype)
    return F.conv_transpose2d(x, w, None, stride, padding, output_padding, 1, dilation), older


def pool(x, older, *, kernel=2, stride=2, padding=0, ceil=False, how="max"):
    kernel = min(kernel, *x.shape[2:])
    padding = min(padding, kernel // 2)
    function = F.max_pool2d if how == "max" else F.avg_pool2d
    return function(x, kernel, stride, padding, ceil_mode=ceil), older


def pad(x, older, *, amounts=(1, 1, 1, 1), how="constant"):
    if how == "reflect":
        amounts = [min(a, n - 1) for a, n in zip(amounts, (x.shape[3],) * 2 + (x.shape[2],) * 2, strict=True)]
    amounts = [max(a, 0) for a in amounts] if how != "constant" else list(amounts)
    return F.pad(x, list(amounts), mode=how), older


def crop(x, older, *, top=0, left=0, step=1):
    y = x[:, :, top::step, left:]
    return (y if min(y.shape[2:]) > 0 else x), older


def branch(x, _):
    return x, x


def swap(x, older):
    return older, x


def meet(x: Tensor, older: Tensor) -> tuple[Tensor, Tensor]:
    rows, cols = (min(a, b) for a, b in zip(x.shape[2:], older.shape[2:], strict=True))
    return x[:, :, :rows, :cols], older[:, :, :rows, :cols]


def add(x, older):
    x, other = meet(x, older)
    channels = min(x.shape[1], other.shape[1])
    return x[:, :channels] + other[:, :channels], older


def add_in_place(x, older):
    y, other = meet(x.clone(), older)
    y[:, :1] += other[:, :1]
    return y, older


def cat(x, older):
    return torch.cat(meet(x, older), 1), older


def shuffle(x, older, *, groups=2):
    n, c, h, w = x.shape
    if c % groups:
        return x, older
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w), older


def chunked(x, older):
    parts = x.chunk(2, 1)
    return torch.cat([F.relu(parts[0]), *parts[1:]], 1), older


def relu(x, older):
    return F.relu(x.clone(), inplace=True), older


def upsample(x, older, *, factor=2, mode="nearest"):
    return F.interpolate(x, scale_factor=factor, mode=mode), older


def channels_last(x, older):
    y = x.permute(0, 2, 3, 1)
    return F.layer_norm(y, y.shape[-1:]).permute(0, 3, 1, 2), older


def pixel_shuffle(x, older, *, factor=2):
    return (F.pixel_shuffle(x, factor) if x.shape[1] % factor**2 == 0 else x), older


def adaptive(x, older, *, out=(5, 3)):
    return F.adaptive_avg_pool2d(x, tuple(min(o, n) for o, n in zip(out, x.shape[2:], strict=True))), older


def roll(x, older, *, by=1):
    return torch.roll(x, (by, -by), (2, 3)), older


def gate(x, older):
    return x * torch.sigmoid(x.mean((2, 3), keepdim=True)), older


def local_norm(x, older):
    return F.local_response_norm(x, 3), older


def stripe(x, older):
    """Pools the rows only: columns keep their rule."""
    return x + x.mean(2, keepdim=True), older


def turned(x, older):
    return x.transpose(2, 3).flip(2), older


STEPS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "conv": conv, "conv_transpose": conv_transpose, "pool": pool, "pad": pad, "crop": crop, "branch": branch,
    "swap": swap,
    "add": add, "add_in_place": add_in_place, "cat": cat, "shuffle": shuffle, "chunked": chunked, "relu": relu,
    "upsample": upsample,
    "channels_last": channels_last, "pixel_shuffle": pixel_shuffle, "adaptive": adaptive, "roll": roll, "gate": gate,
    "local_norm": local_norm, "stripe": stripe, "turned": turned,
}  # fmt: skip


def drawn(seed: int, count: int) -> Scripted:
    """A network of `count` random steps."""
    chance = random.Random(seed)
    steps: list[Step] = [random_step(chance, LOCAL) for _ in range(count)]
    return Scripted(steps)


LOCAL = [
    "conv",
    "conv",
    "conv",
    "pool",
    "pad",
    "crop",
    "branch",
    "swap",
    "add",
    "cat",
    "shuffle",
    "chunked",
    "relu",
    "channels_last",
]


def random_step(chance: random.Random, kinds: Sequence[str]) -> Step:
    kind = chance.choice(kinds)
    pair = lambda low, high: (chance.randint(low, high), chance.randint(low, high))  # noqa: E731
    facts = {
        "conv": lambda: {"kernel": pair(1, 4), "stride": pair(1, 2), "padding": pair(0, 4), "dilation": pair(1, 2),
        "groups": chance.choice([1, 1, 2])},
        "conv_transpose": lambda: {"kernel": chance.randint(1, 4), "stride": chance.randint(1, 3),
        "padding": chance.randint(0, 2), "output_padding": chance.randint(0, 1)},
        "pool": lambda: {"kernel": chance.randint(1, 3), "stride": chance.randint(1, 3), "padding": chance.randint(0,
        1), "ceil": chance.random() < 0.5, "how": chance.choice(["max", "avg"])},
        "pad": lambda: {"amounts": [chance.randint(-1, 3) for _ in range(4)], "how": chance.choice(["constant",
        "reflect", "replicate"])},
        "crop": lambda: {"top": chance.randint(0, 2), "left": chance.randint(0, 2), "step": chance.randint(1, 2)},
        "upsample": lambda: {"factor": chance.choice([2, 1.5]), "mode": chance.choice(["nearest", "bilinear",
        "bicubic"])},
        "adaptive": lambda: {"out": pair(1, 6)},
        "roll": lambda: {"by": chance.randint(-2, 2)},
    }.get(kind, dict)()  # fmt: skip
    return kind, facts
