"""What is done to a deal from its pages, without scripts: forms, refusals beside their field, answers."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Account, Membership, User
from marketdata import market
from marketdata import services as market_services
from marketdata.models import Product
from positions import execution
from positions.execution import Intent
from positions.models import Position
from positions.states import Direction, PositionStatus, Purpose
from tests.factories import BotFactory, DecisionFactory, MembershipFactory, OrderFactory, ProductFactory, UserFactory
from tests.looking import everything
from tests.pages.dealing import SETTINGS, closed_deal, open_deal
from tests.pages.markup import offences, text
from tradebot.core import clock
from tradebot.core.scoping import acting_for_account

pytestmark = pytest.mark.django_db


@pytest.fixture
def product() -> Product:
    market_services.refresh_products("simulated")
    return ProductFactory()


@pytest.fixture
def deal(account: Account, product: Product) -> Position:
    """A deal that was opened for real, on paper, for 100 USD of its 500."""
    bot = BotFactory(account=account, name="Dip ladder", products=[product], settings=SETTINGS, status="running")
    with acting_for_account(account.pk):
        order = execution.intend_open(
            account=account,
            bot=bot,
            product=product,
            direction=Direction.LONG,
            frozen_settings=SETTINGS,
            settings_version=1,
            strategy=bot.strategy,
            budget_quote=Decimal(500),
            max_active_deals=1,
            max_deals_per_pair=1,
            intent=Intent(purpose=Purpose.BASE_ORDER, sequence=1, quote_size=Decimal(100)),
        )
        execution.submit(order)
        order.position.refresh_from_db()
    assert order.position.status == PositionStatus.OPEN
    return order.position


def fresh(deal: Position) -> Position:
    return everything(Position).select_related("product").get(pk=deal.pk)


def ask() -> Decimal:
    quote = market.quote("simulated", "BTC-USD")
    assert quote is not None
    return quote.ask


transactional = pytest.mark.django_db(transaction=True)


# Reaching everything --------------------------------------------------------------------------------------------------


def test_every_action_is_reached_from_the_deal_and_the_list(browser: Client, account: Account) -> None:
    product = ProductFactory()
    deal = open_deal(BotFactory(account=account, products=[product], settings=SETTINGS), product, 60_000)
    for page in (browser.get(f"/deals/{deal.pk}/"), browser.get("/deals/")):
        for name in ("close", "limit-close", "add-funds", "settings", "ceiling", "cancel"):
            assert f"/deals/{deal.pk}/{name}/" in text(page), name
        assert offences(page) == []


@pytest.mark.parametrize("name", ["close", "limit-close", "add-funds", "settings", "ceiling", "cancel"])
def test_the_pages_follow_the_content_policy_and_end_with_the_deal(
    browser: Client, account: Account, name: str
) -> None:
    product = ProductFactory()
    bot = BotFactory(account=account, products=[product], settings=SETTINGS)
    deal, ended = open_deal(bot, product, 60_000), closed_deal(bot, product)
    page = browser.get(f"/deals/{deal.pk}/{name}/")
    assert (page.status_code, offences(page)) == (200, [])
    assert "ended" in text(browser.get(f"/deals/{ended.pk}/{name}/", follow=True))


@pytest.mark.parametrize("name", ["close", "limit-close", "add-funds", "settings", "ceiling", "cancel"])
def test_an_observer_sees_the_deal_but_none_of_its_actions(client: Client, account: Account, name: str) -> None:
    product = ProductFactory()
    deal = open_deal(BotFactory(account=account, products=[product], settings=SETTINGS), product)
    olga, bob = UserFactory(), UserFactory()
    MembershipFactory(account=account, user=olga, role=Membership.Role.OBSERVER)
    client.force_login(olga)
    assert f"/deals/{deal.pk}/{name}/" not in text(client.get(f"/deals/{deal.pk}/"))
    assert "Bid" in text(client.get(f"/deals/{deal.pk}/ticker/"))
    for person in (olga, bob):
        client.force_login(person)
        assert client.get(f"/deals/{deal.pk}/{name}/").status_code == 404
        assert client.post(f"/deals/{deal.pk}/{name}/", {"price": "1", "amount": "1"}).status_code == 404
    assert client.get(f"/deals/{deal.pk}/ticker/").status_code == 404


# Closing --------------------------------------------------------------------------------------------------------------


@transactional
def test_a_part_is_worked_out_and_then_closed(browser: Client, deal: Position) -> None:
    page = browser.get(f"/deals/{deal.pk}/close/?share_pct=25")
    assert page.context["preview"].is_part
    assert 'name="share_pct" value="25"' in text(page)
    answer = browser.post(f"/deals/{deal.pk}/close/", {"share_pct": "25"}, follow=True)
    assert "That part is closed." in text(answer)
    assert "Part closed:" in text(answer)
    assert fresh(deal).status == PositionStatus.OPEN


def test_f23_a_part_that_is_not_there_is_refused_beside_the_field(browser: Client, deal: Position) -> None:
    page = browser.get(f"/deals/{deal.pk}/close/?base=5")
    assert "are left" in page.context["form"].errors["base"][0]
    answer = browser.post(f"/deals/{deal.pk}/close/", {"base": "5"})
    assert answer.status_code == 422
    assert "are left" in text(answer)


@transactional
def test_a_limit_close_is_placed_changed_and_cancelled(browser: Client, deal: Position) -> None:
    path, price = f"/deals/{deal.pk}/limit-close/", ask() * 2
    assert "Best bid, fills at once" in text(browser.get(path))
    assert f'value="{price}"' in text(browser.get(path + f"?price={price}"))
    answer = browser.post(path, {"price": str(price), "share_pct": "100", "time_in_force": "gtc"}, follow=True)
    page = text(answer)
    assert "waits in the order book" in page
    assert "Working orders" in page
    assert "by trader@example.com" in page
    assert "Change limit close" in page
    assert "nothing is added, no other profit is taken" in page
    page = text(browser.get(path))
    assert "Resting now:" in page
    until = timezone.localtime(clock.now() + timedelta(hours=5), timezone.get_default_timezone())
    form = {"price": str(price + 5), "time_in_force": "gtd", "expires_at": f"{until:%Y-%m-%dT%H:%M}"}
    answer = browser.post(f"{path}change/", form, follow=True)
    assert "Limit close changed:" in text(answer)
    with acting_for_account(deal.account_id):
        order = deal.orders.filter(purpose=Purpose.LIMIT_CLOSE).order_by("-id")[0]
    assert (order.limit_price, order.expires_at is not None) == (price + 5, True)
    answer = browser.post(f"{path}cancel/", follow=True)
    assert "The limit close is cancelled." in text(answer)
    assert fresh(deal).status == PositionStatus.OPEN


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"price": "0"}, "price"),
        ({"price": "NaN"}, "price"),
        ({"price": "1e400"}, "price"),
        ({"price": ""}, "price"),
        ({"share_pct": "101"}, "share_pct"),
        ({"time_in_force": "gtd"}, "expires_at"),
        ({"time_in_force": "gtd", "expires_at": "2020-01-01T00:00"}, "expires_at"),
    ],
)
def test_f23_what_cannot_be_placed_comes_back_as_it_was_typed(
    browser: Client, deal: Position, typed: dict[str, str], field: str
) -> None:
    form = {"price": "90000", "share_pct": "100", "time_in_force": "gtc"} | typed
    answer = browser.post(f"/deals/{deal.pk}/limit-close/", form)
    assert answer.status_code == 422
    assert list(answer.context["form"].errors) == [field]
    assert f'href="/deals/{deal.pk}/limit-close/?price=' in text(answer)


def test_an_end_that_does_not_count_is_left_out(browser: Client, deal: Position) -> None:
    form = {"price": "0", "share_pct": "100", "time_in_force": "gtc", "expires_at": "2020-01-01T00:00"}
    answer = browser.post(f"/deals/{deal.pk}/limit-close/", form)
    assert list(answer.context["form"].errors) == ["price"]


# Adding ---------------------------------------------------------------------------------------------------------------


@transactional
def test_funds_are_added_and_the_ceiling_says_how_much(browser: Client, deal: Position) -> None:
    path = f"/deals/{deal.pk}/add-funds/"
    assert browser.get(path).context["room"].left == 400 + (100 - fresh(deal).quote_spent)
    much = browser.post(path, {"amount": "450", "order_type": "market"})
    assert much.status_code == 422
    assert "Lower the amount, or raise the ceiling" in text(much)
    answer = browser.post(path, {"amount": "450", "order_type": "market", "raise_ceiling": "on"}, follow=True)
    assert "The deal has been added to." in text(answer)
    assert "ceiling raised to" in text(answer)
    assert fresh(deal).safety_orders_filled == 0


@transactional
def test_an_addition_that_waits_is_shown_and_cancelled(browser: Client, deal: Position) -> None:
    path = f"/deals/{deal.pk}/add-funds/"
    assert browser.post(path, {"amount": "50", "order_type": "limit"}).context["form"].errors["price"]
    form = {"amount": "50", "order_type": "limit", "price": "100"}
    assert "Manual add" in text(browser.post(path, form, follow=True))
    assert "An addition waits at" in text(browser.get(path))
    answer = browser.post(f"/deals/{deal.pk}/cancel-add/", follow=True)
    assert "The order is cancelled." in text(answer)


@transactional
def test_the_ceiling_is_changed_and_shown_on_the_time_line(browser: Client, deal: Position) -> None:
    path = f"/deals/{deal.pk}/ceiling/"
    low = browser.post(path, {"budget_quote": "1"})
    assert low.status_code == 422
    assert "cannot be below that" in text(low)
    answer = browser.post(path, {"budget_quote": "800"}, follow=True)
    assert "Ceiling changed: 500 → 800 USD" in text(answer)
    assert fresh(deal).budget_quote == 800


# Settings -------------------------------------------------------------------------------------------------------------


def settings_form(browser: Client, deal: Position, **typed: str) -> dict[str, str]:
    """What a browser sends back of the form as it is, with these changes."""
    draft = browser.get(f"/deals/{deal.pk}/settings/").context["draft"]
    return {f"s.{name}": value for name, value in draft.settings.items()} | {"version": "1"} | typed


def test_the_settings_are_changed_for_this_deal_only(browser: Client, deal: Position) -> None:
    path = f"/deals/{deal.pk}/settings/"
    page = text(browser.get(path))
    assert "This deal only." in page
    assert "s.base_order_size" not in page
    assert "s.direction" not in page
    answer = browser.post(path, settings_form(browser, deal, **{"s.stop_loss": "18"}), follow=True)
    assert "Saved for this deal. Stop loss: 20 % → 18 %." in text(answer)
    assert text(answer).count("Stop loss: 20 % → 18 %") == 2  # the answer and the time line
    assert (fresh(deal).settings["stop_loss"], fresh(deal).settings_version) == ("18", 2)
    again = browser.post(path, settings_form(browser, deal, version="2"), follow=True)
    assert "Nothing changed." in text(again)


def test_a_stop_closer_than_the_ladder_is_refused_with_the_numbers(browser: Client, deal: Position) -> None:
    form = settings_form(browser, deal, **{"s.stop_loss": "3", "s.base_order_size": "7"})
    answer = browser.post(f"/deals/{deal.pk}/settings/", form)
    assert answer.status_code == 422
    assert "closer than the deepest safety order" in text(answer)
    assert 'value="3"' in text(answer)
    assert fresh(deal).settings == SETTINGS


def test_somebody_elses_change_is_not_overwritten(browser: Client, deal: Position) -> None:
    form = settings_form(browser, deal, **{"s.stop_loss": "18", "version": "7"})
    answer = browser.post(f"/deals/{deal.pk}/settings/", form, follow=True)
    assert "changed_meanwhile" in text(answer)
    assert fresh(deal).settings == SETTINGS


def test_more_safety_orders_than_the_ceiling_pays_for_are_pointed_out(browser: Client, deal: Position) -> None:
    form = settings_form(browser, deal, **{"s.max_safety_orders": "6"})
    answer = browser.post(f"/deals/{deal.pk}/settings/", form, follow=True)
    assert "Raise its ceiling" in text(answer)


def test_rules_are_built_without_scripts(browser: Client, deal: Position) -> None:
    form = settings_form(browser, deal, action="add_group:add_conditions")
    answer = browser.post(f"/deals/{deal.pk}/settings/", form)
    assert answer.status_code == 200
    assert "t.add_conditions.0.0.indicator" in text(answer)
    assert fresh(deal).settings == SETTINGS


# What the deal's page says --------------------------------------------------------------------------------------------


def test_a_decision_shows_each_condition_with_value_and_threshold(browser: Client, account: Account) -> None:
    product = ProductFactory()
    bot = BotFactory(account=account, products=[product], settings=SETTINGS)
    deal = open_deal(bot, product)
    checks = [
        {"label": "RSI(14) 15m below 42", "state": "unmet", "value": 50.6, "threshold": 42.0, "operator": "<"},
        {"label": "MFI(14) 1h below 20", "state": "unknown", "value": None, "threshold": 20.0, "reason": "no candles"},
    ]
    evidence = {"checks": checks, "held_seconds": 12}
    DecisionFactory(bot=bot, position=deal, product=product, code="add_conditions_not_met", evidence=evidence)
    DecisionFactory(bot=bot, position=deal, product=product, action="add", code="adding", message="bought <b>more</b>")
    page = text(browser.get(f"/deals/{deal.pk}/"))
    for wanted in ("RSI(14) 15m below 42", "50.6", "42", "no candles", "Held seconds", "bought &lt;b&gt;more".title()):
        assert wanted.lower() in page.lower(), wanted
    done = text(browser.get(f"/deals/{deal.pk}/?show=acted"))
    assert "RSI(14)" not in done
    assert "Adding" in done


def test_resting_orders_say_who_placed_them_and_what_is_left(browser: Client, account: Account) -> None:
    product = ProductFactory()
    deal = open_deal(BotFactory(account=account, products=[product], settings=SETTINGS), product)
    OrderFactory(
        position=deal,
        purpose=Purpose.TAKE_PROFIT,
        order_type="limit",
        limit_price=Decimal(130),
        base_size=Decimal(2),
        filled_base=Decimal("0.5"),
        status="partially_filled",
        actor="bot",
        created_at=clock.now() - timedelta(hours=2),
    )
    response = browser.get(f"/deals/{deal.pk}/")
    (row,) = response.context["working"]
    assert (row.left, row.share, row.is_persons) == (Decimal("1.5"), Decimal(25), False)
    page = text(response)
    assert "by the bot" in page
    assert "2 h" in page
    assert f"/deals/{deal.pk}/limit-close/cancel/" not in page  # the machine's own, not a person's


def test_a_member_sees_on_the_time_line_who_changed_what(
    browser: Client, client: Client, account: Account, deal: Position
) -> None:
    browser.post(f"/deals/{deal.pk}/settings/", settings_form(browser, deal, **{"s.stop_loss": "18"}))
    olga: User = UserFactory()
    MembershipFactory(account=account, user=olga, role=Membership.Role.OBSERVER)
    client.force_login(olga)
    page = text(client.get(f"/deals/{deal.pk}/"))
    assert "Stop loss: 20 % → 18 %" in page
    assert "by trader@example.com" in page
