"""Networks of strangers: what students write, and what an instrument must read rightly or refuse.

Each is small and deterministic. `CONV` kernels are drawn from a seed of their own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unitscope.networks import Network

SIZE = 16


def conv(inputs: int = 4, outputs: int = 4, *, seed: int = 0) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.normal_(0, 0.3, generator=generator)
        assert layer.bias is not None
        layer.bias.normal_(0, 0.3, generator=generator)
    return layer


def norm(*, seed: int = 0) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(4)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.running_mean.normal_(0, 0.3, generator=generator)  # type: ignore[union-attr]
        layer.running_var.uniform_(0.5, 2, generator=generator)  # type: ignore[union-attr]
        layer.bias.normal_(0, 0.3, generator=generator)
    return layer


class Stranger(nn.Module):
    """A network that is given as a function of itself and the pictures."""

    def __init__(self, run: Callable[[Stranger, Tensor], Tensor], **parts: object) -> None:
        super().__init__()
        self.run = run
        self.one, self.two, self.three = conv(3, seed=1), conv(seed=2), conv(seed=3)
        self.norm, self.relu, self.act = norm(), nn.ReLU(), nn.ReLU(inplace=True)
        self.pool, self.full = nn.MaxPool2d(2), nn.Linear(4, 5)
        with torch.no_grad():
            self.full.weight.copy_(torch.linspace(-1, 1, 20).view(5, 4))
            self.full.bias.copy_(torch.linspace(-0.5, 0.5, 5))
        self.last: Tensor | None = None
        self.calls = 0
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("ready", torch.tensor(False))
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def network(run: Callable[[Stranger, Tensor], Tensor], **parts: object) -> Network:
    return Network(Stranger(run, **parts), size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3, name="stranger")


def pictures(count: int, *, seed: int = 0) -> Tensor:
    """Smooth random pictures [stimulus color height width], of 256 levels."""
    coarse = torch.from_numpy(np.random.default_rng(seed).random((count, 3, 4, 4), dtype=np.float32))
    smooth = functional.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    return (smooth * 255).round() / 255


# Networks whose responses belong to one picture alone: they must be read rightly.


def flatten_by_view(m: Stranger, x: Tensor) -> Tensor:
    return m.relu(m.full(m.pool(m.relu(m.one(x))).view(len(x), -1)[:, ::64]))


def view_a_map(m: Stranger, x: Tensor) -> Tensor:
    y = m.relu(m.one(x))
    return m.relu(m.two(y.view(y.shape[0], 4, -1).view(y.shape)))


def look_at_a_shape(m: Stranger, x: Tensor) -> Tensor:
    y = m.one(x)
    z = m.act(m.norm(y))
    return m.relu(m.two(z) * (1 + y.numel() / z.numel()))


def look_at_strides(m: Stranger, x: Tensor) -> Tensor:
    y = m.one(x)
    z = m.act(m.norm(y))
    return m.relu(m.two(z) * (1.0 + float(y.stride(1) > 0)))


def call_forward(m: Stranger, x: Tensor) -> Tensor:
    return m.three(m.relu(m.two(m.relu.forward(m.one(x)))))


def call_forward_last(m: Stranger, x: Tensor) -> Tensor:
    return m.three(m.relu.forward(m.two(m.relu(m.one(x)))))


def call_forward_of_norm(m: Stranger, x: Tensor) -> Tensor:
    return m.two(m.act(m.norm(m.one(x)))) + m.relu(m.norm.forward(m.three(m.one(x))))


def give_by_name(m: Stranger, x: Tensor) -> Tensor:
    return m.three(m.relu(m.two(m.relu(input=m.pool(input=m.one(x))))))


def squeeze(m: Stranger, x: Tensor) -> Tensor:
    return m.relu(m.full(m.relu(m.one(x)).mean((2, 3), keepdim=True).squeeze()))


def twice_as_many(m: Stranger, x: Tensor) -> Tensor:
    both = m.relu(m.one(torch.cat([x, x.flip(3)])))
    a, b = both.chunk(2)
    return m.act(m.two(a + b))


def count_calls(m: Stranger, x: Tensor) -> Tensor:
    m.calls += 1
    return m.relu(m.two(m.relu(m.one(x))))


def keep_a_table(m: Stranger, x: Tensor) -> Tensor:
    if m.last is None:
        m.last = torch.linspace(0, 1, SIZE)
    return m.relu(m.one(x) + m.last)


@torch.inference_mode()
def in_inference_mode(m: Stranger, x: Tensor) -> Tensor:
    return m.relu(m.two(m.act(m.norm(m.one(x)))))


def choose_by_value(m: Stranger, x: Tensor) -> Tensor:
    y = m.one(x)
    z = m.act(m.norm(y))
    return m.relu(m.two(z) if float(z.detach().mean()) > -1 else y)


def in_several_types(m: Stranger, x: Tensor) -> Tensor:
    return m.relu(m.two(m.relu(m.one(x)).double().float()))


STEADY = {
    run.__name__: run
    for run in (
        flatten_by_view, view_a_map, look_at_a_shape, look_at_strides, call_forward, call_forward_last,
        call_forward_of_norm, give_by_name, squeeze, twice_as_many, count_calls, keep_a_table, in_inference_mode,
        choose_by_value, in_several_types,
    )
}  # fmt: skip


# Networks whose responses depend on company, chance or state: they must be refused, with a story.


def normalize_by_batch(m: Stranger, x: Tensor) -> Tensor:
    y = m.one(x)
    return m.relu(y - y.mean(0, keepdim=True))


def normalize_with_batch_statistics(m: Stranger, x: Tensor) -> Tensor:
    return m.relu(functional.batch_norm(m.one(x), None, None, training=True))


def scale_by_batch(m: Stranger, x: Tensor) -> Tensor:
    y = m.one(x)
    return m.relu(y / y.abs().max())


def subtract_neighbors(m: Stranger, x: Tensor) -> Tensor:
    return m.relu(m.one(x) - m.two(m.one(x)).roll(1, 0))


def turn_the_batch(m: Stranger, x: Tensor) -> Tensor:
    return m.relu(m.one(x).flip(0))


def cut_in_pairs(m: Stranger, x: Tensor) -> Tensor:
    a, b = x.chunk(2) if len(x) > 1 else (x, x)
    return m.act(m.two(m.relu(m.norm(m.one(a - b)))))


def pair_and_join(m: Stranger, x: Tensor) -> Tensor:
    a, b = x.chunk(2) if len(x) > 1 else (x, x)
    return m.relu(m.one(torch.cat([a - b, b - a])[: len(x)]))


def take_the_first(m: Stranger, x: Tensor) -> Tensor:
    return m.relu(m.one(x[:1]).expand(len(x), -1, -1, -1))


def add_noise(m: Stranger, x: Tensor) -> Tensor:
    y = m.one(x)
    return m.relu(y + 0.3 * torch.randn_like(y))


def drop_out(m: Stranger, x: Tensor) -> Tensor:
    return m.relu(functional.dropout(m.one(x), 0.5, training=True))


def add_numpy_noise(m: Stranger, x: Tensor) -> Tensor:
    return m.relu(m.one(x) + float(np.random.standard_normal()))  # noqa: NPY002


def remember(m: Stranger, x: Tensor) -> Tensor:
    y = m.one(x)
    y = y if m.last is None or m.last.shape != y.shape else y + m.last
    m.last = y.detach()
    return m.relu(y)


def average_over_time(m: Stranger, x: Tensor) -> Tensor:
    y = m.one(x)
    m.scale.mul_(0.5).add_(0.5 * y.detach().abs().mean())  # type: ignore[operator]
    return m.relu(y / m.scale)


def set_at_first_sight(m: Stranger, x: Tensor) -> Tensor:
    y = m.one(x)
    if not m.ready:
        m.scale.copy_(1 / y.std())  # type: ignore[operator]
        m.ready.fill_(True)  # type: ignore[operator]
    return m.relu(y * m.scale)


UNSTEADY = {
    run.__name__: (run, story)
    for run, story in (
        (normalize_by_batch, "depends on the other pictures"),
        (normalize_with_batch_statistics, "depends on the other pictures"),
        (scale_by_batch, "depends on the other pictures"),
        (subtract_neighbors, "depends on the other pictures"),
        (turn_the_batch, "depends on the other pictures"),
        (cut_in_pairs, "joins or cuts the pictures of a batch"),
        (pair_and_join, "depends on the other pictures"),
        (take_the_first, "depends on the other pictures|joins or cuts"),
        (add_noise, "draws random numbers"),
        (drop_out, "draws random numbers"),
        (add_numpy_noise, "draws random numbers|shown before"),
        (remember, "depends on what it was shown before.*last"),
        (average_over_time, "depends on what it was shown before.*scale"),
        (set_at_first_sight, "depends on the other pictures.*scale"),
    )
}
