"""What zipser2015 says of the patterns themselves: they grow more complex with depth, and tile a picture. As numbers.

*Complexity* is how many waves a pattern takes: the exponential of the entropy of its power over spatial frequencies,
all colors together. A grating takes about one, white noise most of all. A larger field has room for more waves, so
complexity is given beside that of white noise on as many pixels.

*Tiling* is how well a unit's single outcome is found again in the picture that drives the unit at all positions at
once: the largest correlation of the outcome with any part of that picture. Outcomes of other units give the chance
level.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view

MOST_PIXELS = 4096
"""Patterns with more numbers than this are thinned evenly, the picture with them, before they are looked for."""


def complexity(contrast: Float[np.ndarray, "color height width"]) -> float:
    """exp(-sum p log p) over the shares p of a pattern's power at each frequency, its mean color left out; 1 to half
    the number of its pixels. NaN for a pattern without contrast.
    """
    waves = np.fft.fft2(contrast - contrast.mean((1, 2), keepdims=True))
    power = (np.abs(waves.astype(np.complex128)) ** 2).sum(0)
    if power.sum() <= 0:
        return float("nan")
    shares = power / power.sum()
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum()
    # Frequencies 0 and 1/2 are their own mirror images: f and -f are the same there.
    own_mirror = shares[np.ix_(*([0, n // 2] if n % 2 == 0 else [0] for n in shares.shape))].sum()
    return float(np.exp(entropy - (1 - own_mirror) * np.log(2)))  # all other waves are there twice, at +f and -f


def tiling(outcome: Float[np.ndarray, "color height width"], picture: Float[np.ndarray, "color rows cols"]) -> float:
    """The largest Pearson correlation of an outcome with a part of a picture, -1 to 1; NaN where the outcome is not
    smaller than the picture, or does not vary.
    """
    if any(a >= b for a, b in zip(outcome.shape[1:], picture.shape[1:], strict=True)):
        return float("nan")
    step = int(np.ceil(np.sqrt(max(1.0, outcome.size / MOST_PIXELS))))
    windows = sliding_window_view(picture, outcome.shape[1:], (1, 2))[..., ::step, ::step]
    own = outcome[:, ::step, ::step].astype(np.float64)
    own = own - own.mean()
    count = own.size
    mean = windows.mean((0, 3, 4), dtype=np.float64)
    # The energy of each window around its own mean: the sum of squares - count mean^2.
    energy = np.einsum("crsij,crsij->rs", windows, windows, dtype=np.float64) - count * mean**2
    product = np.einsum("crsij,cij->rs", windows, own)
    length = np.sqrt(np.maximum(energy, 0) * (own**2).sum())
    known = length > 1e-12
    return float((product[known] / length[known]).max()) if known.any() else float("nan")
