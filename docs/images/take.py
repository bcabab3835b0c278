"""Takes the README's picture of an atlas: `python docs/images/take.py unitscope-demo/atlas [resnet34/maxpool.html]`.

Needs playwright and chromium. The page of a site shows most.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright


def take(page: Path, to: Path, *, width: int = 1200, height: int = 760) -> None:
    """A picture of the page as a browser shows it, in a palette of 256 colors."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": height})
        tab.goto(page.resolve().as_uri(), wait_until="networkidle")
        tab.wait_for_timeout(3000)
        tab.screenshot(path=to)
        browser.close()
    with Image.open(to) as picture:
        small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(to, optimize=True)


if __name__ == "__main__":
    atlas = Path(sys.argv[1])
    take(atlas / (sys.argv[2] if len(sys.argv) > 2 else "index.html"), Path(__file__).parent / "atlas.png")
