"""What people do, through the pages of a running installation."""

from __future__ import annotations

import re
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.journeys.conftest import Person
from tests.runtime.serving import Serving, serving

pytestmark = [pytest.mark.browser, pytest.mark.slow]
FILL_SECONDS = 60
Window = Callable[..., Person]


def make_bot(who: Person, name: str) -> int:
    """Create a bot over BTC-USD that opens at once, start it, and return its id."""
    page = who.page
    who.go("/bots/new/")
    page.fill("input[name=name]", name)
    page.get_by_role("button", name=re.compile("BTC-USD$")).first.click()
    expect(page.locator("input[name=symbols][value='BTC-USD']")).to_have_count(1)
    expect(page.locator("#side, .side").first).to_contain_text("SO 1")
    page.get_by_role("button", name="Remove condition").first.click()
    expect(page.get_by_role("button", name="Remove condition")).to_have_count(0)
    page.get_by_role("button", name=re.compile("Create and start")).click()
    page.wait_for_url(re.compile(r"/bots/\d+/$"))
    return int(re.search(r"/bots/(\d+)/", page.url).group(1))


def rows(site: Serving, sql: str) -> list[tuple]:
    """Look into the database of a running installation without disturbing it."""
    connection = sqlite3.connect(f"file:{Path(site.data_dir) / 'tradebot.sqlite3'}?mode=ro", uri=True, timeout=30)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_a_stranger_signs_up_makes_a_bot_sees_its_fill_and_closes_the_deal(person: Window) -> None:
    ann = person()
    ann.sign_up("ann@example.com")
    bot = make_bot(ann, "Ann's first bot")
    page = ann.page
    expect(page.locator("h1")).to_contain_text("Ann's first bot")
    toast = page.locator(".tb-toast").first
    expect(toast).to_be_visible(timeout=FILL_SECONDS * 1000)
    expect(toast).to_contain_text("BTC")
    expect(toast).to_contain_text("Paper")
    ann.go("/deals/")
    page.locator("a[href^='/deals/']", has_text="BTC-USD").first.click()
    page.wait_for_url(re.compile(r"/deals/\d+/$"))
    deal = int(re.search(r"/deals/(\d+)/", page.url).group(1))
    expect(page.locator("main")).to_contain_text("Base order")
    expect(page.locator("canvas").first).to_be_visible()

    bob = person()
    bob.sign_up("bob@example.com")
    for path in ("/", "/bots/", "/deals/", "/history/", "/orders/", "/accounts/"):
        assert bob.go(path) == 200
        assert "Ann" not in bob.page.content(), path
    for path in (f"/bots/{bot}/", f"/bots/{bot}/edit/", f"/deals/{deal}/", f"/deals/{deal}/close/"):
        assert bob.go(path) == 404, path
    for path in (f"/api/bots/{bot}/", f"/api/positions/{deal}/"):
        assert bob.context.request.get(bob.base + path, headers={"Accept": "application/json"}).status == 404, path
    bob.go("/")
    expect(bob.page.locator(".conn")).to_contain_text("Live data")

    ann.go(f"/bots/{bot}/")
    page.get_by_role("button", name=re.compile("^Stop")).first.click()
    expect(page.locator(".page-head")).to_contain_text("Stopped")
    ann.go(f"/deals/{deal}/close/")
    page.get_by_role("button", name=re.compile("on paper$")).click()
    page.wait_for_url(re.compile(rf"/deals/{deal}/"))
    expect(page.locator(".page-head")).to_contain_text("Closed")
    ann.go("/history/")
    expect(page.locator("main")).to_contain_text("BTC-USD")
    assert bob.page.locator(".tb-toast").count() == 0, "a fill of somebody else was shown"
    assert [line for line in ann.trouble if "404" not in line] == []


def test_the_demo_bot_fills_in_the_browser_within_a_minute_of_sign_in(person: Window, demo_password: str) -> None:
    demo = person()
    demo.sign_in("demo@tradebot.local", demo_password)
    expect(demo.page.locator(".tb-toast").first).to_be_visible(timeout=FILL_SECONDS * 1000)
    assert demo.trouble == []


def test_pages_fit_a_phone_and_a_desk_in_both_themes_without_a_word_in_the_console(
    person: Window, demo_password: str, site: Serving
) -> None:
    bot = rows(site, "SELECT min(id) FROM bots_bot")[0][0]
    deal = rows(site, "SELECT min(id) FROM positions_position")[0][0]
    paths = ["/", "/bots/", f"/bots/{bot}/", f"/bots/{bot}/edit/", "/bots/new/", "/deals/", f"/deals/{deal}/"]
    paths += ["/history/", "/orders/", "/accounts/", "/settings/"]
    who = person()
    who.sign_in("demo@tradebot.local", demo_password)
    for path in paths:
        who.looks_right(path)


def test_reading_and_forms_work_without_javascript(person: Window) -> None:
    eve = person(java_script_enabled=False)
    eve.sign_up("eve@example.com")
    page = eve.page
    eve.go("/bots/new/")
    page.fill("input[name=name]", "Plain bot")
    page.fill("input[name=wanted_pair]", "ETH-USD")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("input[name=symbols][value='ETH-USD']")).to_have_count(1)
    page.get_by_role("button", name="Remove condition").first.click()
    page.get_by_role("button", name=re.compile("Create and start")).click()
    page.wait_for_url(re.compile(r"/bots/\d+/$"))
    expect(page.locator(".page-head")).to_contain_text("Running")
    deadline = time.monotonic() + FILL_SECONDS
    while time.monotonic() < deadline:
        eve.go("/deals/")
        if "ETH-USD" in page.locator("main").inner_text():
            break
        page.wait_for_timeout(500)
    expect(page.locator("main")).to_contain_text("ETH-USD")
    eve.go("/accounts/")
    page.locator("main").get_by_role("link", name="Paper", exact=True).first.click()
    expect(page.locator("h1")).to_contain_text("Paper")
    expect(page.locator("main")).to_contain_text("USD")


def test_killed_in_the_middle_and_started_again_nothing_is_lost_or_doubled(
    tmp_path: Path, prepared: Path, person: Window
) -> None:
    shutil.copytree(prepared, tmp_path / "data")
    with serving(tmp_path / "data") as first:
        first.started()
        first.until(lambda: rows(first, "SELECT count(*) FROM positions_fill")[0][0] >= 6, FILL_SECONDS)
        port = first.port
        first.process.kill()
        first.process.wait()
        before = rows(first, "SELECT id, order_id, venue_trade_id, base, quote FROM positions_fill ORDER BY id")
    with serving(tmp_path / "data", port) as again:
        again.started()
        again.until(again.ready)
        after = rows(again, "SELECT id, order_id, venue_trade_id, base, quote FROM positions_fill ORDER BY id")
        assert after[: len(before)] == before
        venue = rows(again, "SELECT count(*), count(DISTINCT client_order_id) FROM accounts_paperorder")[0]
        assert venue[0] == venue[1]
        again.until(lambda: not _unsettled(again), FILL_SECONDS)
        demo = person(at=again)
        demo.sign_in("demo@tradebot.local", (tmp_path / "data" / "demo-password.txt").read_text().strip())
        demo.go("/deals/")
        expect(demo.page.locator("main")).to_contain_text("-USD")


def _unsettled(site: Serving) -> list[tuple]:
    """Trades of the venue that are not fills of ours, or fills that the venue does not know."""
    return rows(
        site,
        "SELECT replace(t.trade_id, '-', '') FROM accounts_papertrade t WHERE replace(t.trade_id, '-', '') NOT IN "
        "(SELECT replace(venue_trade_id, '-', '') FROM positions_fill) UNION "
        "SELECT replace(venue_trade_id, '-', '') FROM positions_fill WHERE replace(venue_trade_id, '-', '') NOT IN "
        "(SELECT replace(trade_id, '-', '') FROM accounts_papertrade)",
    )
