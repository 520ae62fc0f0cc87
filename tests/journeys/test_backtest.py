"""From a bot form to a backtest and on to a bot that runs, in a browser and on a running installation."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.journeys.conftest import Person

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PATIENCE = 90_000
Window = Callable[..., Person]


def test_settings_are_tried_before_they_are_saved_and_started(person: Window) -> None:
    kim = person()
    kim.sign_up("kim@example.com")
    page = kim.page
    kim.go("/bots/new/")
    page.fill("input[name=name]", "Tried first")
    page.get_by_role("button", name=re.compile("BTC-USD$")).first.click()
    expect(page.locator("input[name=symbols][value='BTC-USD']")).to_have_count(1)
    page.get_by_role("button", name="Remove condition").first.click()
    expect(page.get_by_role("button", name="Remove condition")).to_have_count(0)
    page.get_by_role("button", name="Backtest these settings").click()

    expect(page.locator("h1")).to_have_text("New backtest")
    expect(page.locator("#r-name")).to_have_value("Tried first")
    expect(page.locator("main")).to_contain_text("as typed in the bot form, not saved")
    with page.expect_response(re.compile("/backtests/new/")):
        page.get_by_role("button", name="30 days").click()
    expect(page.locator(".htmx-request")).to_have_count(0)  # the form that is filled in next is the new one
    expect(page.locator("#coverage")).to_contain_text(re.compile("Missing|Part of the range"))
    page.fill("#r-capital", "5000")

    page.get_by_role("button", name="Edit settings").click()  # to the bot form and back, with nothing lost
    expect(page.locator("h1")).to_have_text("New bot")
    expect(page.locator("input[name=name]")).to_have_value("Tried first")
    with page.expect_response(re.compile("/bots/preview/")):
        page.fill("#s_take_profit", "1.1")
    page.get_by_role("button", name="Backtest these settings").click()
    expect(page.locator("#r-capital")).to_have_value("5000")
    expect(page.locator("main")).to_contain_text("1.1 %")

    page.get_by_role("button", name="Download missing history").click()
    expect(page.locator("#coverage")).to_contain_text("All held", timeout=PATIENCE)
    page.get_by_role("button", name="Run the backtest").click()
    page.wait_for_url(re.compile(r"/backtests/\d+/$"))
    expect(page.locator(".kpis")).to_contain_text("Net profit", timeout=PATIENCE)
    expect(page.locator("#chart canvas").first).to_be_visible()
    page.locator(".plots").first.focus()
    page.keyboard.press("End")
    expect(page.locator("#read")).to_contain_text("drawdown")
    page.locator("a[data-fills]").first.click()
    expect(page.locator(".fills-row")).to_contain_text("Base order")

    page.locator("summary", has_text="Make a bot from this").click()
    page.get_by_role("button", name="Make a stopped bot").click()
    page.wait_for_url(re.compile(r"/bots/\d+/$"))
    expect(page.locator(".page-head")).to_contain_text("Stopped")
    page.get_by_role("button", name=re.compile("^Start")).first.click()
    expect(page.locator(".page-head")).to_contain_text("Running")
    page.get_by_role("button", name=re.compile("^Stop")).first.click()
    assert kim.trouble == []


def test_a_backtest_is_made_and_read_without_javascript(person: Window) -> None:
    lou = person(java_script_enabled=False)
    lou.sign_up("lou@example.com")
    page = lou.page
    lou.go("/backtests/new/?template=conservative")
    page.fill("#wanted-pair", "ETH-USD")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("input[name=symbols][value='ETH-USD']")).to_have_count(1)
    page.get_by_role("button", name="30 days").click()
    page.get_by_role("button", name="Download missing history").click()
    held = page.locator("#coverage")
    for _ in range(PATIENCE // 500):
        if "All held" in held.inner_text():
            break
        page.wait_for_timeout(500)
        page.get_by_role("button", name="Look again").click()
    expect(held).to_contain_text("All held")
    page.get_by_role("button", name="Run the backtest").click()
    page.wait_for_url(re.compile(r"/backtests/\d+/$"))
    expect(page.locator(".kpis")).to_contain_text("Net profit", timeout=PATIENCE)  # the page renews itself
    expect(page.locator(".plots path.equity").first).to_be_attached()
    lou.go("/backtests/")
    expect(page.locator("main")).to_contain_text("ETH-USD")


def test_the_pages_fit_a_phone_and_a_desk_in_both_themes(person: Window, demo_password: str) -> None:
    who = person()
    who.sign_in("demo@tradebot.local", demo_password)
    for path in ("", "new/", "sweeps/", "sweeps/new/", "history/", "compare/"):
        who.looks_right(f"/backtests/{path}")
