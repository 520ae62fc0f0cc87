"""Connecting, arming, limits, the stop switch, panic sales and executions from outside, as pages and over the API."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from rest_framework.test import APIClient

from accounts.models import Account, ExchangeCredential, TradingLimits, User
from bots.models import Bot, PanicRun
from positions.models import UnmatchedFill
from tests.accounts.live import fake_venue, live_account
from tests.accounts.second_factor import second_factor
from tests.factories import (
    BotFactory,
    MembershipFactory,
    PanicRunFactory,
    PanicStepFactory,
    PositionFactory,
    UnmatchedFillFactory,
    UserFactory,
)
from tests.looking import everything
from tests.pages.markup import offences, text
from tests.venue.keys import make_key
from tests.venue.server import FakeVenue
from tradebot.core.models import AuditEntry
from tradebot.core.scoping import all_accounts

Code = Callable[[], str]
WALLETS = {"USD": "1000", "BTC": "0.1"}


@pytest.fixture
def venue() -> Iterator[FakeVenue]:
    with fake_venue() as started:
        yield started


@pytest.fixture
def code(trader: User) -> Code:
    return second_factor(trader)


@pytest.fixture
def live(trader: User) -> Account:
    return live_account(make_key("nobody"), owner=trader, name="Main", trading_state="read_only")


@pytest.fixture
def api(trader: User) -> APIClient:
    client = APIClient()
    client.force_login(trader)
    return client


def stored(account: Account) -> Account:
    with all_accounts("looking"):
        return Account.objects.get(pk=account.pk)


def typed(key: object, **more: str) -> dict[str, str]:
    return {"exchange": "coinbase", "name": "Main", "api_key": key.name, "api_secret": key.secret, **more}  # type: ignore[attr-defined]


# Connecting -----------------------------------------------------------------------------------------------------------


def test_connecting_asks_for_a_second_factor_first(browser: Client, account: Account, venue: FakeVenue) -> None:
    page = browser.get(reverse("exchange_connect"))
    assert offences(page) == []
    assert "Set up an authenticator app" in text(page)
    assert "api_secret" not in page.content.decode()

    assert browser.post(reverse("exchange_connect"), typed(venue.add_account("t", WALLETS))).status_code == 422
    with all_accounts("looking"):
        assert not ExchangeCredential.objects.exists()


def test_who_has_not_confirmed_an_address_is_told_to_do_that_first(client: Client, db: None) -> None:
    client.force_login(UserFactory())
    assert "First confirm your e-mail address" in text(client.get(reverse("exchange_connect")))


def test_an_exchange_is_connected_read_only_and_shows_what_the_key_may_do(
    browser: Client, account: Account, venue: FakeVenue, code: Code
) -> None:
    page = browser.post(reverse("exchange_connect"), typed(venue.add_account("t", WALLETS), code=code()), follow=True)

    assert offences(page) == []
    for words in (
        "Main is connected",
        "Read-only",
        "May trade",
        "May not withdraw",
        "Bound to portfolio",
        "1\u2009000.00",
    ):
        assert words in text(page), words


def test_a_key_that_may_withdraw_is_warned_about_and_taken_only_after_a_tick(
    browser: Client, account: Account, venue: FakeVenue, code: Code
) -> None:
    venue.add_account("t", WALLETS)
    key = venue.add_key("t", can_transfer=True)

    page = browser.post(reverse("exchange_connect"), typed(key, code=code()))
    assert page.status_code == 422
    assert "This key may withdraw" in text(page)
    # The code was good, so that the keys may be typed in again without waiting for the next one.
    page = browser.post(reverse("exchange_connect"), typed(key, accept_withdrawal="on"), follow=True)
    assert "May withdraw" in text(page)
    assert page.redirect_chain


def test_a_refused_form_comes_back_without_the_keys(
    browser: Client, account: Account, venue: FakeVenue, code: Code
) -> None:
    key = make_key("nobody")
    page = browser.post(reverse("exchange_connect"), typed(key, code=code()))

    assert page.status_code == 422
    body = page.content.decode()
    assert "does not take this key" in text(page)
    assert key.name not in body
    assert not any(line in body for line in key.secret.splitlines())
    assert 'value="Main"' in body  # the name is no secret
    assert "no-store" in page["Cache-Control"]


@pytest.mark.parametrize("wrong", ["", "000000"])
def test_nothing_is_asked_of_the_venue_without_a_good_code(
    browser: Client, account: Account, venue: FakeVenue, code: Code, wrong: str
) -> None:
    page = browser.post(reverse("exchange_connect"), typed(venue.add_account("t", WALLETS), code=wrong))
    assert page.status_code == 422
    assert not any("key_permissions" in path for path in venue.control.count())


def test_a_code_counts_once(browser: Client, live: Account, code: Code) -> None:
    one = code()
    browser.post(reverse("account_arm", args=[live.pk]), {"name": "Main", "code": one})
    browser.post(reverse("account_disarm", args=[live.pk]))

    page = browser.post(reverse("account_arm", args=[live.pk]), {"name": "Main", "code": one})

    assert page.status_code == 422
    assert stored(live).trading_state == "read_only"


def test_keys_are_removed_at_once(browser: Client, live: Account) -> None:
    page = browser.post(reverse("account_keys_remove", args=[live.pk]), follow=True)
    assert "This account has no keys" in text(page)


# Arming ---------------------------------------------------------------------------------------------------------------


def test_arming_needs_the_name_and_a_code(browser: Client, live: Account, code: Code) -> None:
    arm = reverse("account_arm", args=[live.pk])
    for data in ({"name": "main", "code": code()}, {"name": "Main"}, {"name": "Main", "code": "000000"}, {}):
        page = browser.post(arm, data)
        assert page.status_code == 422, data
        assert offences(page) == []
        assert stored(live).trading_state == "read_only"

    page = browser.post(arm, {"name": "Main", "code": code()}, follow=True)

    assert "orders there use real money" in text(page)
    assert stored(live).trading_state == "armed"
    with all_accounts("looking"):
        assert AuditEntry.objects.filter(action="account_armed", actor="trader@example.com").count() == 1


def test_arming_without_a_second_factor_is_refused(browser: Client, live: Account) -> None:
    page = browser.post(reverse("account_arm", args=[live.pk]), {"name": "Main", "code": "1"})
    assert page.status_code == 422
    assert stored(live).trading_state == "read_only"
    assert "Set up an authenticator app" in text(page)


def test_disarming_is_one_click(browser: Client, live: Account) -> None:
    everything(Account).filter(pk=live.pk).update(trading_state="armed")
    page = browser.post(reverse("account_disarm", args=[live.pk]), follow=True)
    assert "Main is read-only" in text(page)


def test_buttons_and_strip_say_which_money_moves(browser: Client, live: Account, account: Account, code: Code) -> None:
    browser.post(reverse("switch_account"), {"account": live.pk})
    page = text(browser.get(reverse("account", args=[live.pk])))
    assert "Arm Main on Coinbase with real money" in page
    assert "Read-only: nothing is bought." in page
    deal = PositionFactory(account=live, bot=None, open=True)
    close = text(browser.get(reverse("deal_close", args=[deal.pk])))
    assert "on Coinbase with real money" in close
    paper = PositionFactory(account=account, bot=None, open=True)
    assert "on paper" in text(browser.get(reverse("deal_close", args=[paper.pk])))


# Limits ---------------------------------------------------------------------------------------------------------------


def test_tighter_limits_hold_at_once_and_looser_ones_need_a_code(browser: Client, live: Account, code: Code) -> None:
    address = reverse("account_limits", args=[live.pk])

    def largest() -> object:
        with all_accounts("looking"):
            return TradingLimits.objects.get(account=live).largest_order

    assert browser.post(address, {"largest_order": "500", "currency": "USD"}).status_code == 302
    assert browser.post(address, {"largest_order": "400", "currency": "USD"}).status_code == 302
    for looser in ("500", ""):
        assert browser.post(address, {"largest_order": looser, "currency": "USD"}).status_code == 422
        assert largest() == 400
    assert browser.post(address, {"largest_order": "400", "currency": "BTC"}).status_code == 422
    assert browser.post(address, {"largest_order": "500", "currency": "USD", "code": code()}).status_code == 302
    assert largest() == 500


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("largest_order", "-1"),
        ("largest_order", "NaN"),
        ("daily_loss_pct", "101"),
        ("max_open_deals", "0"),
        ("currency", "XXX"),
    ],
)
def test_a_limit_that_is_none_is_refused_at_its_field(
    browser: Client, account: Account, field: str, value: str
) -> None:
    page = browser.post(reverse("account_limits", args=[account.pk]), {"currency": "USD", field: value})
    assert page.status_code == 422
    assert "field-error" in page.content.decode()


def test_limits_of_paper_money_need_no_code(browser: Client, account: Account) -> None:
    address = reverse("account_limits", args=[account.pk])
    for value in ("100", "1000", ""):
        assert browser.post(address, {"largest_order": value, "currency": "USD"}).status_code == 302


def test_limits_over_the_api(api: APIClient, live: Account, code: Code) -> None:
    address = f"/api/accounts/{live.pk}/limits/"
    assert api.patch(address, {"daily_loss": "100"}, format="json").data["daily_loss"] == "100"
    refused = api.patch(address, {"daily_loss": None}, format="json")
    assert (refused.status_code, refused.data["code"], refused.data["field"]) == (400, "second_factor_needed", "code")
    assert api.patch(address, {"daily_loss": None, "code": code()}, format="json").data["daily_loss"] is None
    assert api.patch(address, {"daily_loss": "1e400"}, format="json").status_code == 400


# The stop switch ------------------------------------------------------------------------------------------------------


def test_the_switch_is_on_every_page_and_stops_one_account(browser: Client, account: Account, live: Account) -> None:
    bot = BotFactory(account=account, status="running")
    for page in ("dashboard", "deals", "bots", "history", "orders", "accounts", "settings"):
        assert 'action="/stop-trading/"' in browser.get(reverse(page)).content.decode(), page

    page = browser.post(reverse("stop_trading"), {"account": account.pk, "next": "/deals/"}, follow=True)

    assert page.redirect_chain[0][0] == "/deals/"
    assert "Practice: stopped. 1 bot stopped" in text(page)
    assert "Stopped: Practice." in text(page)  # the strip, from now on everywhere
    assert (stored(account).trading_state, stored(live).trading_state) == ("killed", "read_only")
    with all_accounts("looking"):
        assert Bot.objects.get(pk=bot.pk).status == "stopped"


def test_all_means_all_of_ones_own(browser: Client, account: Account, live: Account) -> None:
    shared = MembershipFactory(user=account.owner, role="manager").account
    browser.post(reverse("stop_trading"), {"account": "all"})
    assert [stored(row).is_killed for row in (account, live, shared)] == [True, True, False]


@pytest.mark.parametrize("asked", ["", "9" * 30, "-1", "x", "0"])
def test_an_account_that_is_none_is_404(browser: Client, account: Account, asked: str) -> None:
    assert browser.post(reverse("stop_trading"), {"account": asked}).status_code == 404


def test_paper_trades_again_after_its_name_was_typed(browser: Client, account: Account) -> None:
    browser.post(reverse("stop_trading"), {"account": account.pk})
    assert browser.post(reverse("account_arm", args=[account.pk]), {"name": "x"}).status_code == 422
    browser.post(reverse("account_arm", args=[account.pk]), {"name": "Practice"})
    assert stored(account).is_armed


def test_a_stopped_live_account_needs_the_name_and_a_code_to_trade_again(
    browser: Client, live: Account, code: Code
) -> None:
    browser.post(reverse("stop_trading"), {"account": live.pk})
    browser.post(reverse("account_disarm", args=[live.pk]))
    assert stored(live).is_killed  # one click does not undo it
    browser.post(reverse("account_arm", args=[live.pk]), {"name": "Main"})
    assert stored(live).is_killed
    browser.post(reverse("account_arm", args=[live.pk]), {"name": "Main", "code": code()})
    assert stored(live).is_armed


def test_the_switch_over_the_api(api: APIClient, account: Account, live: Account) -> None:
    assert api.post("/api/stop-trading/", {"account": live.pk}, format="json").data["accounts"] == [live.pk]
    assert set(api.post("/api/stop-trading/", {}, format="json").data["accounts"]) == {account.pk, live.pk}
    assert api.get(f"/api/accounts/{account.pk}/").data["trading_state"] == "killed"


def test_the_shell_costs_no_query_per_account(browser: Client, account: Account) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            browser.get(reverse("orders"))
        return len(found)

    live_account(make_key("nobody"), owner=account.owner, name="First")
    queries()
    few = queries()
    for number in range(4):
        live_account(make_key("nobody"), owner=account.owner, name=f"More {number}")
    queries()  # the value in the top bar is worked out anew for other accounts, and then kept
    assert queries() == few


# Panic sales ----------------------------------------------------------------------------------------------------------


def test_everything_is_sold_after_the_name_was_typed(browser: Client, account: Account) -> None:
    page = browser.get(reverse("panic_new", args=[account.pk]))
    assert offences(page) == []
    assert "Sell everything on paper" in text(page)
    assert browser.post(reverse("panic_new", args=[account.pk]), {"name": "x"}).status_code == 422

    page = browser.post(reverse("panic_new", args=[account.pk]), {"name": "Practice"}, follow=True)

    assert "/panic/" in page.redirect_chain[0][0]
    assert offences(page) == []
    assert stored(account).is_killed


def test_a_live_account_is_sold_after_a_code_only(browser: Client, live: Account, code: Code) -> None:
    browser.post(reverse("panic_new", args=[live.pk]), {"name": "Main"})
    with all_accounts("looking"):
        assert not PanicRun.objects.exists()
    browser.post(reverse("panic_new", args=[live.pk]), {"name": "Main", "code": code()})
    with all_accounts("looking"):
        assert PanicRun.objects.get().actor == "trader@example.com"


def test_the_page_of_a_run_says_honestly_what_is_left(browser: Client, account: Account) -> None:
    run = PanicRunFactory(account=account, finished=True, status="incomplete", deals_left=1)
    deal = PositionFactory(account=account, bot=None, open=True)
    PanicStepFactory(run=run, position=deal, state="failed", message="The venue said no.", error_code="rejected")

    page = browser.get(reverse("panic_run", args=[run.pk]))

    assert offences(page) == []
    for words in (
        "Not all of it worked: 1 deal and 0 orders are left, 1 step failed",
        "The venue said no.",
        "[rejected]",
    ):
        assert words in text(page), words


def test_panic_over_the_api(api: APIClient, account: Account) -> None:
    body = {"account": account.pk, "name": "Practice"}
    assert api.post("/api/panic-runs/", {**body, "name": "x"}, format="json").status_code == 400
    made = api.post("/api/panic-runs/", body, format="json")
    assert made.status_code == 201
    assert made.data["steps"][0]["kind"] == "automation"
    assert api.get(f"/api/panic-runs/{made.data['id']}/").status_code == 200


# Executions from outside ----------------------------------------------------------------------------------------------


def test_an_execution_from_outside_is_explained_with_one_click(browser: Client, live: Account) -> None:
    fill = UnmatchedFillFactory(account=live)
    assert "Say what it was" in text(browser.get(reverse("dashboard")))
    page = browser.get(reverse("unmatched_fills"))
    assert offences(page) == []

    browser.post(reverse("unmatched_explain", args=[fill.pk]), {"explanation": "by_hand"})

    with all_accounts("looking"):
        row = UnmatchedFill.objects.get()
    assert (row.explanation, row.explained_by) == ("by_hand", "trader@example.com")
    assert row.explained_at is not None
    assert "Say what it was" not in text(browser.get(reverse("dashboard")))
    assert "I traded this by hand" in text(browser.get(reverse("unmatched_fills") + "?show=all"))


def test_what_nobody_knows_stays_on_the_list(browser: Client, live: Account) -> None:
    fill = UnmatchedFillFactory(account=live)
    browser.post(reverse("unmatched_explain", args=[fill.pk]), {"explanation": "unknown"})
    assert "Keep watching" in text(browser.get(reverse("unmatched_fills")))


def test_all_of_an_account_are_explained_at_once(browser: Client, live: Account) -> None:
    fills = [UnmatchedFillFactory(account=live) for _ in range(3)]
    browser.post(reverse("unmatched_explain", args=[fills[0].pk]), {"explanation": "other_program", "all": "on"})
    with all_accounts("looking"):
        assert UnmatchedFill.objects.filter(explanation="other_program").count() == 3


def test_executions_over_the_api(api: APIClient, live: Account) -> None:
    fill = UnmatchedFillFactory(account=live)
    assert api.get("/api/outside-fills/?explained=false").data["count"] == 1
    refused = api.post(f"/api/outside-fills/{fill.pk}/explain/", {"explanation": "x"}, format="json")
    assert (refused.status_code, refused.data["field"]) == (400, "explanation")
    api.post(f"/api/outside-fills/{fill.pk}/explain/", {"explanation": "by_hand"}, format="json")
    assert api.get("/api/outside-fills/?explained=false").data["count"] == 0
