"""The browser, and a context in which a page must do nothing but show itself."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from support.needs import CHROMIUM


@dataclass
class Opened:
    """A page in the browser, with all messages on its console and all requests."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    session: CDPSession | None = None

    def seconds(self) -> float:
        """Return the processor time of the page's thread in seconds; the page must have been timed."""
        assert self.session is not None
        metrics = self.session.send("Performance.getMetrics")["metrics"]
        return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Opener:
    """Open pages; `close` closes them."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._pages: list[Page] = []

    def __call__(self, path: Path, *, dark: bool = False, width: int = 1180, timed: bool = False) -> Opened:
        page = self._browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", offline=True
        )
        self._pages.append(page)
        opened = Opened(page)
        page.on("console", lambda message: opened.said.append(message.text))
        page.on("pageerror", lambda error: opened.said.append(str(error)))
        page.on("dialog", lambda dialog: opened.said.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: opened.asked.append(request.url))
        if timed:
            opened.session = page.context.new_cdp_session(page)
            opened.session.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto(path.as_uri())
        return opened

    def close(self) -> None:
        for page in self._pages:
            page.close()


@pytest.fixture
def opener(browser: Browser) -> Iterator[Opener]:
    made = Opener(browser)
    yield made
    made.close()
