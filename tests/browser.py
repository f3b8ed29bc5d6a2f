"""A headless browser for the tests that look at a page. Run by itself, it says what is missing."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
DRIVERS = ("chromedriver", "chromium-driver")
SWITCHES = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--window-size=1440,900"),
)


def missing() -> str | None:
    """What there should be for a test with a browser, or None if it is there."""
    if not _found(BROWSERS) or not _found(DRIVERS):
        return (
            "no chromium and chromedriver on the PATH: on Debian and Ubuntu,"
            " apt-get install chromium chromium-driver"
        )
    return None


@contextmanager
def browser(profile: Path) -> Iterator[WebDriver]:
    """A browser with a profile of its own, which keeps what it logs and what it requests."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = _found(BROWSERS)
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(_found(DRIVERS))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


def _found(names: tuple[str, ...]) -> str:
    return next((path for name in names if (path := shutil.which(name))), "")


if __name__ == "__main__":
    sys.exit(missing())
