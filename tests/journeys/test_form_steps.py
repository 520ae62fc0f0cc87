"""Forms whose buttons have the server draw parts of them anew, used faster than the server answers.

Answers are kept back by the browser itself, so that what comes first is stated by the test and not by the machine.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Page, Route, expect

from tests.journeys.conftest import Person
from tests.journeys.test_journeys import rows
from tests.runtime.serving import Serving

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("journeys")]
Window = Callable[..., Person]
CREATE = re.compile("Create and start")
NAME = "input[name=name]"
PATIENCE_SECONDS = 20


class Held:
    """What HTMX asks of one page, kept from the server until the test lets it go. Whole pages go through."""

    def __init__(self, page: Page, path: str) -> None:
        self.page, self.routes, self.is_open = page, list[Route](), False
        self.forms: list[dict[str, list[str]]] = []  # everything that was posted
        page.route(f"**{path}", self._take)

    def _take(self, route: Route) -> None:
        request = route.request
        if request.method == "POST":
            self.forms.append(parse_qs(request.post_data or ""))
        if request.headers.get("hx-request") and not self.is_open:
            self.routes.append(route)
        else:
            route.continue_()

    @property
    def sent(self) -> list[str]:
        """Return the buttons of everything that was posted."""
        return [form.get("action", [""])[0] for form in self.forms]

    def pressed(self, press: Callable[[], Any]) -> None:
        """Press something that asks the server, and return when the request is held."""
        before = len(self.routes)
        press()
        self.until(lambda: len(self.routes) > before)

    def let_go(self) -> None:
        """Let the oldest request go to the server and its answer come."""
        self.until(lambda: bool(self.routes))
        self.routes.pop(0).continue_()

    def let_all_go(self) -> None:
        """Let everything go that is held or comes later."""
        self.is_open = True
        while self.routes:
            self.routes.pop(0).continue_()

    def fail(self) -> None:
        """Let the connection of the oldest request break."""
        self.routes.pop(0).abort("connectionreset")

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"it did not come; sent: {self.sent}"
            self.page.wait_for_timeout(10)


def new_bot(who: Person, name: str) -> Page:
    """Open the form of a new bot over BTC-USD, with the one condition of the usual preset."""
    page = who.page
    who.go("/bots/new/")
    page.fill(NAME, name)
    page.get_by_role("button", name=re.compile("BTC-USD$")).first.click()
    expect(page.locator("input[name=symbols][value='BTC-USD']")).to_have_count(1)
    expect(removes(page)).to_have_count(1)
    expect(page.locator("#bot-form")).not_to_have_attribute("aria-busy", "true")
    return page


def removes(page: Page) -> Any:
    return page.get_by_role("button", name="Remove condition")


def create(page: Page) -> None:
    page.get_by_role("button", name=CREATE).first.click()


def created(page: Page) -> None:
    page.wait_for_url(re.compile(r"/bots/\d+/$"))


def saved(site: Serving, name: str) -> dict[str, Any] | None:
    """Return the settings of a bot as they stand in the database; None where there is no such bot."""
    found = rows(site, f"SELECT settings FROM bots_bot WHERE name = '{name}'")
    return json.loads(found[0][0]) if found else None


def opening(site: Serving, name: str) -> list[Any]:
    settings = saved(site, name)
    assert settings is not None
    return list(settings["open_conditions"]["items"])


def pairs(site: Serving, name: str) -> list[str]:
    return [
        symbol
        for (symbol,) in rows(
            site,
            "SELECT p.symbol FROM bots_botproduct bp JOIN bots_bot b ON b.id = bp.bot_id"
            f" JOIN marketdata_product p ON p.id = bp.product_id WHERE b.name = '{name}' ORDER BY bp.id",
        )
    ]


@pytest.fixture
def ida(person: Window, request: pytest.FixtureRequest) -> Person:
    ida = person()
    ida.sign_up(f"{request.node.name.replace('_', '-')[:50]}@example.com")
    return ida


def test_a_condition_removed_a_moment_before_is_not_saved(ida: Person, site: Serving) -> None:
    page = new_bot(ida, "Removed in time")
    held = Held(page, "/bots/new/")
    held.pressed(removes(page).first.click)
    create(page)
    page.locator(NAME).press("Enter")  # the keyboard's way to the same button waits as well
    assert saved(site, "Removed in time") is None
    held.let_go()
    created(page)
    assert opening(site, "Removed in time") == []
    assert held.sent == ["remove_condition:open_conditions:0:0", "save"]
    assert ida.trouble == []


def test_a_step_that_fails_is_said_saves_nothing_and_leaves_the_form_usable(ida: Person, site: Serving) -> None:
    page = new_bot(ida, "Failed step")
    held = Held(page, "/bots/new/")
    held.pressed(removes(page).first.click)
    create(page)
    held.fail()
    expect(page.locator(".tb-toast")).to_contain_text("Nothing was saved or started")
    expect(page.locator("#bot-form")).not_to_have_attribute("aria-busy", "true")
    assert held.sent == ["remove_condition:open_conditions:0:0"]
    expect(removes(page)).to_have_count(1)
    held.pressed(removes(page).first.click)
    held.let_go()
    expect(removes(page)).to_have_count(0)
    create(page)
    created(page)
    assert opening(site, "Failed step") == []


def test_a_session_that_ended_takes_no_part_of_the_form_away(ida: Person) -> None:
    page = new_bot(ida, "Signed out")
    ida.context.clear_cookies(name=re.compile("session"))
    removes(page).first.click()
    expect(page.locator(".tb-toast")).to_contain_text("The form is as it was")
    expect(removes(page)).to_have_count(1)


def test_what_is_typed_during_a_step_is_kept_and_saved(ida: Person, site: Serving) -> None:
    page = new_bot(ida, "Typed meanwhile")
    value = page.locator("input[name='t.open_conditions.0.0.value']")
    held = Held(page, "/bots/new/")
    held.pressed(page.get_by_role("button", name="+ Condition", exact=True).first.click)
    value.fill("23.5")
    create(page)
    held.let_go()
    held.let_go()  # sent again with what was typed
    created(page)
    first, second = opening(site, "Typed meanwhile")
    assert first["value"] == 23.5
    assert second["value"] == 30
    assert ida.trouble == []


def test_pairs_added_faster_than_the_server_answers_are_all_added(ida: Person, site: Serving) -> None:
    page = new_bot(ida, "Fast pairs")
    held = Held(page, "/bots/new/")
    held.pressed(page.get_by_role("button", name="+ ETH-USD", exact=True).click)
    page.get_by_role("button", name="+ SOL-USD", exact=True).click()
    page.fill("#budget_pct", "7")
    removes(page).first.click()
    create(page)
    for _ in range(4):  # ETH, ETH with the budget that was typed, SOL, the condition
        held.let_go()
    created(page)
    assert pairs(site, "Fast pairs") == ["BTC-USD", "ETH-USD", "SOL-USD"]
    assert opening(site, "Fast pairs") == []
    assert rows(site, "SELECT budget_pct FROM bots_bot WHERE name = 'Fast pairs'") == [("7.000000000000000000",)]
    assert ida.trouble == []


def test_a_button_whose_place_has_moved_is_left_out_and_nothing_is_saved(ida: Person, site: Serving) -> None:
    page = new_bot(ida, "Moved places")
    page.get_by_role("button", name="+ Condition", exact=True).first.click()
    expect(removes(page)).to_have_count(2)
    held = Held(page, "/bots/new/")
    held.pressed(removes(page).nth(0).click)
    removes(page).nth(1).click()
    create(page)
    held.let_go()
    expect(page.locator(".tb-toast")).to_contain_text("Nothing was saved or started")
    expect(removes(page)).to_have_count(1)
    assert saved(site, "Moved places") is None
    held.pressed(removes(page).first.click)
    create(page)
    held.let_go()
    created(page)
    assert opening(site, "Moved places") == []


def test_another_indicator_chosen_during_a_step_is_drawn_and_saved(ida: Person, site: Serving) -> None:
    page = new_bot(ida, "Other indicator")
    held = Held(page, "/bots/new/")
    held.pressed(page.get_by_role("button", name="+ Condition", exact=True).first.click)
    page.select_option("select[name='t.open_conditions.0.0.indicator']", "webhook")
    create(page)
    held.let_go()
    held.let_go()
    created(page)
    first, _ = opening(site, "Other indicator")
    assert (first["indicator"], first["operator"], first["value"]) == ("webhook", "=", 1)
    assert ida.trouble == []


def test_an_answer_never_meets_a_form_whose_parts_it_does_not_know(ida: Person, site: Serving) -> None:
    page = new_bot(ida, "Two parts")
    held = Held(page, "/bots/new/")
    held.pressed(page.get_by_role("button", name="+ ETH-USD", exact=True).click)  # brings new rules with the new pairs
    removes(page).first.click()  # of the rules that are about to go
    held.let_go()
    held.let_go()
    expect(removes(page)).to_have_count(0)
    assert ida.trouble == []
    expect(page.locator("input[name=symbols]")).to_have_count(2)


def test_a_preview_that_was_under_way_does_not_come_onto_a_form_that_has_changed(ida: Person) -> None:
    page = new_bot(ida, "Late preview")
    preview, steps = Held(page, "/bots/preview/"), Held(page, "/bots/new/")
    preview.pressed(lambda: page.fill("#s_take_profit", "1.7"))
    steps.pressed(removes(page).first.click)
    steps.let_go()
    expect(removes(page)).to_have_count(0)
    preview.let_all_go()
    page.fill("#s_take_profit", "x")
    expect(page.locator("#side")).to_contain_text("Fix:")
    assert ida.trouble == []


def test_the_button_says_whose_money_moves_before_it_is_obeyed(ida: Person, site: Serving) -> None:
    live = add_live_account(site)
    page = new_bot(ida, "Whose money")
    held = Held(page, "/bots/new/")
    held.pressed(lambda: page.select_option("#account", str(live)))
    create(page)
    held.let_go()
    expect(page.locator(".tb-toast")).to_contain_text("Nothing was saved or started")
    expect(page.locator("button", has_text="on Coinbase with real money")).to_have_count(2)
    assert saved(site, "Whose money") is None


def test_a_backtest_is_asked_for_with_what_its_form_shows(ida: Person, site: Serving) -> None:
    page = ida.page
    ida.go("/backtests/new/")
    page.get_by_role("button", name="+ BTC-USD", exact=True).click()
    expect(page.locator("input[name=symbols]")).to_have_count(1)
    held = Held(page, "/backtests/new/")
    held.pressed(page.get_by_role("button", name="+ ETH-USD", exact=True).click)
    page.fill("#r-name", "Named meanwhile")
    page.get_by_role("button", name="Remove BTC-USD", exact=True).click()
    page.locator("#run-button").click()
    for _ in range(3):
        held.let_go()
    held.until(lambda: "run" in held.sent)
    assert held.sent == ["add_pair:ETH-USD", "add_pair:ETH-USD", "remove_pair:BTC-USD", "run"]
    assert held.forms[-1]["symbols"] == ["ETH-USD"]
    assert held.forms[-1]["r.name"] == ["Named meanwhile"]
    assert ida.trouble == []


def test_what_is_selected_in_a_field_is_still_replaced_by_typing_after_a_step(ida: Person) -> None:
    page = ida.page
    ida.go("/backtests/new/")
    held = Held(page, "/backtests/new/")
    held.pressed(page.get_by_role("button", name="+ BTC-USD", exact=True).click)
    page.locator("#r-capital").select_text()
    held.let_go()
    expect(page.locator("input[name=symbols]")).to_have_count(1)
    page.keyboard.type("5000")
    expect(page.locator("#r-capital")).to_have_value("5000")


def add_live_account(site: Serving) -> int:
    """Give the newest person an account on an exchange, without keys: enough to be chosen in a form."""
    connection = sqlite3.connect(Path(site.data_dir) / "tradebot.sqlite3", timeout=30)
    try:
        connection.row_factory = sqlite3.Row
        row = dict(connection.execute("SELECT * FROM accounts_account ORDER BY id DESC LIMIT 1").fetchone())
        row |= {"name": "Live", "kind": "exchange", "exchange": "coinbase", "is_default": 0}
        del row["id"]
        names = ", ".join(row)
        marks = ", ".join("?" * len(row))
        made = connection.execute(f"INSERT INTO accounts_account ({names}) VALUES ({marks})", list(row.values()))
        connection.commit()
        return int(made.lastrowid or 0)
    finally:
        connection.close()
