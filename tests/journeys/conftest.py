"""A browser, and a Tradebot that runs for real: Daphne, worker, beat, Valkey and SQLite in a folder of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, sync_playwright

from tests.runtime.serving import Serving, serving

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

PAINTED = """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(
  () => done(document.documentElement.dataset.bsTheme))))"""
"""Two frames later, when whatever follows the theme has followed: the theme that is shown."""


def chromium() -> str | None:
    names = (os.environ.get("CHROMIUM"), shutil.which("chromium"), shutil.which("chromium-browser"))
    return next((name for name in names if name), None)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail("there is no Chromium, and REQUIRE_BROWSER asks for the journeys")
        pytest.skip("there is no Chromium: the journeys through the pages are not made")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        except Error as error:
            pytest.fail(f"Chromium does not start: {error}")
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Iterator[Serving]:
    """A running installation with the demo person, shared by the journeys: each makes people of its own."""
    data = shutil.copytree(prepared, tmp_path_factory.mktemp("site") / "data")
    with serving(data) as running:
        yield running.started()


class Person:
    """A browser window of somebody, with what the console said."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.context, self.base = context, base
        self.page: Page = context.new_page()
        self.page.set_default_timeout(30_000)
        self.trouble: list[str] = []
        self.page.on("console", lambda m: self.trouble.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))

    def go(self, path: str) -> int:
        answer = self.page.goto(self.base + path)
        return answer.status if answer else 0

    def looks_right(self, path: str) -> None:
        """Open a page on a phone in the light theme and on a desk in the dark one, and switch to the other in place."""
        for width, schemes in ((360, ("light", "dark")), (1440, ("dark", "light"))):
            self.page.set_viewport_size({"width": width, "height": 900})
            self.page.emulate_media(color_scheme=schemes[0])  # type: ignore[arg-type]
            assert self.go(path) == 200
            for scheme in schemes:
                self.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                assert self.page.evaluate(PAINTED) == scheme, path
                too_wide = self.page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")
                assert too_wide <= 0, f"{path} is {too_wide} px too wide at {width} px"
            assert self.trouble == [], (path, width)

    def sign_up(self, email: str) -> None:
        self.go("/auth/signup/")
        self.page.fill("input[name=email]", email)
        self.page.fill("input[name=password1]", "correct horse battery")
        self.page.fill("input[name=password2]", "correct horse battery")
        self.page.locator("form button.btn-primary").click()
        self.page.wait_for_url(lambda url: "/auth/" not in url)

    def sign_in(self, email: str, password: str) -> None:
        self.go("/auth/login/")
        self.page.fill("input[name=login]", email)
        self.page.fill("input[name=password]", password)
        self.page.locator("form button.btn-primary").click()
        self.page.wait_for_url(lambda url: "/auth/" not in url)


@pytest.fixture
def person(browser: Browser, site: Serving) -> Iterator[Callable[..., Person]]:
    """Opens windows: ``person()``, ``person(java_script_enabled=False)``, ``person(site=other)``."""
    opened: list[BrowserContext] = []

    def open_window(at: Serving | None = None, **options: object) -> Person:
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 1000}, **options})  # type: ignore[arg-type]
        opened.append(context)
        return Person(context, f"http://127.0.0.1:{(at or site).port}")

    yield open_window
    for context in opened:
        context.close()


@pytest.fixture
def demo_password(site: Serving) -> str:
    return (Path(site.data_dir) / "demo-password.txt").read_text().strip()
