"""The distribution's Chromium, driven by playwright."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, expect, sync_playwright

PATIENCE_MS = 60_000
"""A busy machine takes long to draw; what never comes fails the test all the same."""


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """Start a browser with these arguments, and end it."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", *arguments],
            timeout=PATIENCE_MS,
        )
        yield browser
        browser.close()
