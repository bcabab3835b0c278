"""Running a network outside inference mode, in which torch does not show all operations."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

Mode = torch.inference_mode


@contextmanager
def without_inference_mode() -> Iterator[None]:
    """While open, inference mode is off in this thread, also within functions under `@torch.inference_mode()`.

    In inference mode torch keeps no versions and no gradients, and composed operations are not taken apart. Responses
    are the same without. Whether gradients are computed stays as it is.
    """
    own, enter, leave = threading.get_ident(), Mode.__enter__, Mode.__exit__
    gradients = torch.is_grad_enabled()

    # The class itself is patched, since a network may open the mode anywhere inside. Other threads keep it.
    def entered(mode: Mode) -> None:
        if threading.get_ident() != own:
            enter(mode)

    def left(mode: Mode, *error: Any) -> None:
        if threading.get_ident() != own:
            leave(mode, *error)

    with Mode(False), torch.set_grad_enabled(gradients):  # the first alone would enable them
        Mode.__enter__, Mode.__exit__ = entered, left  # type: ignore[method-assign]
        try:
            yield
        finally:
            Mode.__enter__, Mode.__exit__ = enter, leave  # type: ignore[method-assign]
