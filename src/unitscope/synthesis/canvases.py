"""Canvases: what a picture is made of while it is searched for, and where the search starts.

A canvas turns its parameters into whitened pictures: what the network's module is shown, (RGB - mean) / std, in which
0 is the mean color. One step of a search:

    parameters --whitened()--> whitened picture --network--> response
        ^                                                       |
        +--project()-- new parameters <--ascent-- gradient <----+

`project` brings parameters back to where they may be: within 0..1, or within a norm. Pictures have the axes
[stimulus color height width], and nothing that is computed for one picture depends on another.
"""
# ruff: noqa: ARG001, ARG002  (the protocols' parameters, which not every start and canvas needs)

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from unitscope.errors import BadInput
from unitscope.synthesis.ascents import norms
from unitscope.vocabulary import Box, Size

Pictures = Float[Tensor, "stimulus color height width"]


@dataclass(frozen=True, eq=False)
class Scene:
    """What the pictures of a batch are part of: their boxes on the network's picture, and how its colors are whitened.

    `mean` and `std` are [1 color 1 1], in the network's order of channels; `inside` tells which pixels may be used.
    """

    boxes: tuple[Box, ...]
    mean: Float[Tensor, "1 color 1 1"]
    std: Float[Tensor, "1 color 1 1"]
    picture: Size
    bgr: bool
    inside: Bool[Tensor, "stimulus 1 height width"]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.boxes), self.mean.shape[1], self.boxes[0].height, self.boxes[0].width

    def whiten(self, pictures: Pictures) -> Pictures:
        """RGB in 0..1 as the module is shown it."""
        return ((pictures.flip(1) if self.bgr else pictures) - self.mean) / self.std

    def color(self, whitened: Pictures) -> Pictures:
        """Whitened pictures as RGB; they may lie beyond 0..1."""
        pictures = whitened * self.std + self.mean
        return pictures.flip(1) if self.bgr else pictures


# --- where the search starts ------------------------------------------------------------------------

Start = Callable[[Scene, Sequence[torch.Generator]], Pictures]
"""Makes whitened pictures to begin with; one generator per picture."""


def zeros(scene: Scene, generators: Sequence[torch.Generator]) -> Pictures:
    """The mean color (kobayashi2020, section 3.4)."""
    return torch.zeros(scene.shape, device=scene.mean.device)


def draw_numbers(scene: Scene, generators: Sequence[torch.Generator], *, normal: bool) -> Pictures:
    """Numbers from each picture's own generator: normal, or uniform in -1..1."""
    shape = scene.shape[1:]
    draw = torch.randn if normal else torch.rand
    numbers = torch.stack([draw(shape, generator=generator) for generator in generators]).to(scene.mean.device)
    return numbers if normal else 2 * numbers - 1


@dataclass(frozen=True)
class Dots:
    """Random dots: each pixel and color uniform within +-`amplitude` of mid-gray (zipser2015, whose amplitude is not
    stated).
    """

    amplitude: float = 8 / 255

    def __call__(self, scene: Scene, generators: Sequence[torch.Generator]) -> Pictures:
        return scene.whiten(0.5 + self.amplitude * draw_numbers(scene, generators, normal=False))


@dataclass(frozen=True)
class Noise:
    """Gaussian noise around the mean color, of standard deviation `sd` on the whitened scale."""

    sd: float = 0.5

    def __call__(self, scene: Scene, generators: Sequence[torch.Generator]) -> Pictures:
        return self.sd * draw_numbers(scene, generators, normal=True)


@dataclass(frozen=True, eq=False)
class Photograph:
    """A given picture, RGB in 0..1 [color height width] of the network's size: each search starts at the part of it
    that the neuron sees.
    """

    picture: Float[Tensor, "color height width"]

    def __call__(self, scene: Scene, generators: Sequence[torch.Generator]) -> Pictures:
        if tuple(self.picture.shape[1:]) != scene.picture:
            came, expected = (" x ".join(map(str, size)) for size in (self.picture.shape[1:], scene.picture))
            raise BadInput(f"the photograph to start from is {came} pixels; the network is shown {expected}.")
        picture = self.picture
        if scene.shape[1] == 1 and len(picture) == 3:  # luma, as photographs are shown to networks of one channel
            picture = (picture * picture.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)
        if len(picture) != scene.shape[1]:
            raise BadInput(
                f"the photograph to start from has {len(picture)} channels; the network is shown {scene.shape[1]}."
            )
        parts = [picture[:, b.top : b.bottom, b.left : b.right] for b in scene.boxes]
        return scene.whiten(torch.stack(parts).to(scene.mean))

    def __repr__(self) -> str:
        return "Photograph(...)"


STARTS: dict[str, Start] = {"zeros": zeros, "dots": Dots(), "noise": Noise()}
"""Starts by name."""


# --- canvases -------------------------------------------------------------------------------------------


@runtime_checkable
class Canvas(Protocol):
    """What pictures are made of. `begin` gives the parameters of given pictures, `whitened` the pictures of given
    parameters (differentiable), `project` brings parameters back to where they may be.
    """

    def begin(self, start: Pictures, scene: Scene) -> Tensor: ...
    def whitened(self, parameters: Tensor, scene: Scene) -> Pictures: ...
    def project(self, parameters: Tensor, scene: Scene) -> Tensor: ...


@dataclass(frozen=True)
class WhitenedPixels:
    """Whitened pixels, free to take any value, also such as no picture in 0..1 has (kobayashi2020, section 3.4)."""

    def begin(self, start: Pictures, scene: Scene) -> Tensor:
        return start

    def whitened(self, parameters: Tensor, scene: Scene) -> Pictures:
        return parameters

    def project(self, parameters: Tensor, scene: Scene) -> Tensor:
        return parameters


@dataclass(frozen=True)
class Pixels:
    """RGB kept within 0..1."""

    def begin(self, start: Pictures, scene: Scene) -> Tensor:
        return scene.color(start)

    def whitened(self, parameters: Tensor, scene: Scene) -> Pictures:
        return scene.whiten(parameters)

    def project(self, parameters: Tensor, scene: Scene) -> Tensor:
        return parameters.clamp(0, 1)


@dataclass(frozen=True)
class Contrast:
    """RGB within 0..1, at most a given distance from the mean color: |x| <= rho = `rms` sqrt(colors height width).

    `rms` is the root mean square contrast over the pixels that may be used. With `exactly`, |x| = rho, or as much as
    the box of 0..1 allows. Source: methods of walker2019 (most exciting inputs). Unlike there, a picture may have less
    contrast: where a neuron looks closely at a small part of its field only, and that is black and white already, the
    rest would have to be filled with noise.
    """

    rms: float = 0.2
    exactly: bool = False
    rounds: int = 12

    def begin(self, start: Pictures, scene: Scene) -> Tensor:
        return scene.color(start) - self.middle(scene)

    def whitened(self, parameters: Tensor, scene: Scene) -> Pictures:
        return scene.whiten(parameters + self.middle(scene))

    def project(self, parameters: Tensor, scene: Scene) -> Tensor:
        """clip(x) where that is short enough, else the point in the direction of x on the sphere within the box:
        clip(t x), with t such that its norm is rho.

        There is no closed form of t, since pixels at a bound no longer grow: it is scaled up until the norm is rho, or
        `rounds` are over, as where all pixels are at a bound.
        """
        rho = norm_of_contrast(self.rms, scene)
        middle = self.middle(scene)

        def clip(x: Tensor) -> Tensor:
            return torch.minimum(torch.maximum(x, -middle), 1 - middle)

        # 1e-20: a picture of the mean color has the norm 0, and stays what it is.
        x = parameters * (rho / norms(parameters).clamp(min=1e-20))
        for _ in range(self.rounds):
            length = norms(clip(x))
            near = length >= rho * (1 - 1e-6)
            if bool(near.all()):
                break
            # Pixels at a bound do not grow, so that the norm is still too small: scaled up again.
            x = torch.where(near, x, x * (rho / length.clamp(min=1e-20)))
        on_sphere = clip(x)
        if self.exactly:
            return on_sphere
        within = clip(parameters)
        return torch.where(norms(within) <= rho, within, on_sphere)

    @staticmethod
    def middle(scene: Scene) -> Tensor:
        # `mean` has the network's order of channels; parameters here are RGB.
        middle = scene.mean.clamp(0, 1)
        return middle.flip(1) if scene.bgr else middle


def norm_of_contrast(rms: float, scene: Scene) -> Tensor:
    """rho of a root mean square contrast, [stimulus 1 1 1]."""
    return rms * (scene.inside.sum((1, 2, 3), keepdim=True) * scene.shape[1]).sqrt()


DECORRELATION = ((0.26, 0.09, 0.02), (0.27, 0.0, -0.05), (0.27, -0.09, 0.03))
"""RGB of colors that are not correlated in photographs (lucid, optvis/param/color.py)."""


def color_matrix(like: Tensor) -> Float[Tensor, "3 3"]:
    """The matrix, scaled as lucid does: by its largest column norm."""
    matrix = torch.tensor(DECORRELATION, device=like.device, dtype=like.dtype)
    return matrix / torch.linalg.vector_norm(matrix, dim=0).max()


def correlate_colors(x: Pictures) -> Pictures:
    """RGB of decorrelated colors; other numbers of channels as they are."""
    return torch.einsum("rc,nchw->nrhw", color_matrix(x), x) if x.shape[1] == 3 else x


def decorrelate_colors(x: Pictures) -> Pictures:
    """The inverse of `correlate_colors`."""
    return torch.einsum("rc,nchw->nrhw", torch.linalg.inv(color_matrix(x)), x) if x.shape[1] == 3 else x


def frequencies(height: int, width: int) -> Float[Tensor, "height half"]:
    """Spatial frequencies of a real Fourier transform, cycles per pixel."""
    return (torch.fft.fftfreq(height)[:, None] ** 2 + torch.fft.rfftfreq(width)[None, :] ** 2).sqrt()


@dataclass(frozen=True)
class Spectrum:
    """Fourier coefficients scaled by 1/frequency^`decay`, decorrelated colors, a sigmoid at the end (olah2017; lucid,
    optvis/param/spatial.py).
    """

    decay: float = 1.0

    def begin(self, start: Pictures, scene: Scene) -> Tensor:
        # The logit of 0 and of 1 is infinite.
        flat = torch.logit(scene.color(start).clamp(0.01, 0.99))
        # 4 is lucid's: it divides the waves by 4 before the sigmoid.
        return torch.view_as_real(torch.fft.rfft2(4 * decorrelate_colors(flat)) / self.scale(scene)).contiguous()

    def whitened(self, parameters: Tensor, scene: Scene) -> Pictures:
        size = scene.shape[2:]
        waves = torch.fft.irfft2(torch.view_as_complex(parameters) * self.scale(scene), s=size) / 4
        return scene.whiten(torch.sigmoid(correlate_colors(waves)))

    def project(self, parameters: Tensor, scene: Scene) -> Tensor:
        return parameters

    def scale(self, scene: Scene) -> Tensor:
        height, width = scene.shape[2:]
        # The frequency 0 has no inverse; it is scaled as the lowest of the others.
        lowest = frequencies(height, width).clamp(min=1 / max(height, width))
        return ((height * width) ** 0.5 / lowest**self.decay).to(scene.mean)


@dataclass(frozen=True)
class Waves:
    """Start of a Fourier canvas: random coefficients of standard deviation `sd` (olah2017)."""

    sd: float = 0.01
    decay: float = 1.0

    def __call__(self, scene: Scene, generators: Sequence[torch.Generator]) -> Pictures:
        height, width = scene.shape[2:]
        shape = (scene.shape[1], height, width // 2 + 1, 2)
        numbers = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        return Spectrum(self.decay).whitened(self.sd * numbers.to(scene.mean.device), scene)


@dataclass(frozen=True, eq=False)
class Phases:
    """MACO (fel2023): only the phases are searched for; the magnitudes are a given average `spectrum`
    [color height half], which is brought to the canvas's size. Source: xplique, maco.py.
    """

    spectrum: Float[Tensor, "color height half"]

    def begin(self, start: Pictures, scene: Scene) -> Tensor:
        flat = decorrelate_colors(torch.logit(scene.color(start).clamp(0.01, 0.99)))
        return torch.angle(torch.fft.rfft2(flat))

    def whitened(self, parameters: Tensor, scene: Scene) -> Pictures:
        # Standardized in each step, as are the waves below (xplique, maco.py).
        phases = parameters - parameters.mean((1, 2, 3), keepdim=True)
        phases = phases / phases.std((1, 2, 3), keepdim=True).clamp(min=1e-5)
        x = torch.fft.irfft2(
            torch.polar(self.magnitude(scene).expand_as(phases).contiguous(), phases), s=scene.shape[2:]
        )
        x = x - x.mean((1, 2, 3), keepdim=True)
        x = x / x.std((1, 2, 3), keepdim=True).clamp(min=1e-5)
        return scene.whiten(torch.sigmoid(correlate_colors(x)))

    def project(self, parameters: Tensor, scene: Scene) -> Tensor:
        return parameters

    def magnitude(self, scene: Scene) -> Tensor:
        height, width = scene.shape[2], scene.shape[3] // 2 + 1
        size = (height, width)
        given = self.spectrum.to(scene.mean)[None]
        return given if given.shape[2:] == size else resample_spectrum(given, scene.shape[2:])

    def __repr__(self) -> str:
        return f"Phases(spectrum of {'x'.join(map(str, self.spectrum.shape))})"


def resample_spectrum(spectrum: Tensor, size: Size) -> Tensor:
    """An average spectrum [1 color height half] at the frequencies of another size."""
    # Rows hold the frequencies 0, 1, .. and then -n, .., -1. Shifted, neighboring rows are neighboring frequencies,
    # between which one may interpolate.
    centered = torch.fft.fftshift(spectrum, dim=2)
    brought = F.interpolate(centered, (size[0], size[1] // 2 + 1), mode="bilinear", align_corners=False)
    return torch.fft.ifftshift(brought, dim=2)
