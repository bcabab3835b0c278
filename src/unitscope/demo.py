"""The demonstration: both networks of the shipped pair, the built-in photographs, two records, one atlas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from unitscope.errors import BadInput, Failure

if TYPE_CHECKING:
    from unitscope.stimuli.images import Source

SHIPPED_PAIR = ("shipped:resnet34", "shipped:plainnet34")

Progress = Callable[[str, int, int], None]
"""Called as progress(what, done, all)."""


def demo(
    to: str | Path = "unitscope-demo",
    *,
    images: Source = "builtin",
    top: int = 16,
    progress: Progress | None = None,
) -> Path:
    """Survey both networks over the same images, make an atlas of both records, and return the path of its first page.

    The folder `to` gets `records/resnet34`, `records/plainnet34` and `atlas`. Surveys that are there already
    are not made anew, and interrupted ones go on. Raises BadInput where `to` is a file; Failure where it cannot be
    written.
    """
    from unitscope.atlas_pages.site import build_atlas
    from unitscope.networks import load
    from unitscope.recording.survey import survey
    from unitscope.stimuli.images import open_images

    folder = _try_place(Path(to))
    tell = progress or (lambda what, done, total: None)
    images = open_images(images)
    records = []
    for model in SHIPPED_PAIR:
        name = model.removeprefix("shipped:")
        shown = lambda done, total, name=name: tell(f"{name} looks", done, total)  # noqa: E731
        records.append(survey(load(model), images, to=folder / "records" / name, top=top, progress=shown))
    return build_atlas(
        records, to=folder / "atlas", progress=lambda done, total, what: tell(f"atlas: {what}", done, total)
    )


def _try_place(folder: Path) -> Path:
    """Try the place before the long pass."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; the demonstration needs a folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".tried").touch()
        (folder / ".tried").unlink()
    except OSError as error:
        raise Failure(f"the demonstration cannot be written to {folder}: {error.strerror or error}.") from error
    return folder
