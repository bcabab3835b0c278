"""A real browser for tests: chromium through Playwright, its console read along."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
    page.on("requestfailed", lambda request: page.complaints.append(f"{request.url} {request.failure}"))
    page.set_default_timeout(10_000)
    try:
        yield page
    finally:
        context.close()
