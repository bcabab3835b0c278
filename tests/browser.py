"""A real browser for tests and for pictures of pages: chromium through Playwright, its console read along.

`python -m tests.browser PAGE.html#18 PICTURE.png` takes a picture; `--screen phone`, `--scheme dark`, `--scale 2`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import browser

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")

SCREENS = {"desktop": (1280, 860), "phone": (390, 844), "projector": (1920, 1080)}


@contextmanager
def launched() -> Iterator[Any]:
    """The browser that is installed here, without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser(), args=list(ARGUMENTS))
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def page_of(chromium: Any, *, screen: str = "desktop", scheme: str = "light", scale: float = 1) -> Iterator[Any]:
    """A page on one of SCREENS, "light" or "dark". `page.complaints` lists all errors and warnings so far."""
    width, height = SCREENS[screen]
    context = chromium.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=scale, locale="en-US"
    )
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda said: said.type in ("error", "warning") and page.complaints.append(said.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("requestfailed", lambda request: _complain(page, request))
    page.set_default_timeout(10_000)
    try:
        yield page
    finally:
        context.close()


def _complain(page: Any, request: Any) -> None:
    """Note a file that could not be read; what a page no longer waits for when it is left is no complaint."""
    if request.failure != "net::ERR_ABORTED":
        page.complaints.append(f"{request.url} {request.failure}")


def take_picture(
    page: str, to: str | Path, *, screen: str = "desktop", scheme: str = "light", scale: float = 1
) -> None:
    """A picture of what one sees of a page on opening it. `page` is a file's path, with what may follow behind #."""
    path, mark, fragment = page.partition("#")
    with launched() as chromium, page_of(chromium, screen=screen, scheme=scheme, scale=scale) as opened:
        opened.goto(Path(path).resolve().as_uri() + mark + fragment)
        opened.wait_for_load_state()
        opened.wait_for_timeout(500)
        opened.screenshot(path=to)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Take a picture of a page.")
    parser.add_argument("page")
    parser.add_argument("to")
    parser.add_argument("--screen", choices=SCREENS, default="desktop")
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--scale", type=float, default=1)
    take_picture(**vars(parser.parse_args()))
