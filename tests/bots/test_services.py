"""Making, changing, starting and stopping bots."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from accounts.access import acting_for
from accounts.models import Account, Membership, User
from bots import services, templates
from bots.models import Bot, BotProduct, BotTemplate
from bots.strategies.dca_settings import DcaSettings
from marketdata.models import Product
from notifications.models import Event
from positions.models import Position
from positions.states import PositionStatus
from tests.factories import AccountFactory, BotFactory, MembershipFactory, PositionFactory, ProductFactory, UserFactory
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.models import AuditEntry, GlobalSettings
from tradebot.core.scoping import all_accounts

pytestmark = pytest.mark.django_db

FIXED: dict[str, Any] = {
    "base_order_type": "fixed",
    "base_order_size": "100",
    "max_safety_orders": 2,
    "safety_order_size": "100",
    "deviation_reference": "base_order",
}


@pytest.fixture
def owner() -> User:
    return UserFactory()


@pytest.fixture
def account(owner: User) -> Account:
    return AccountFactory(owner=owner, balances={"USD": 10_000, "BTC": 1})


@pytest.fixture
def btc() -> Product:
    return ProductFactory(symbol="BTC-USD")


@pytest.fixture
def eth() -> Product:
    return ProductFactory(symbol="ETH-USD")


@pytest.fixture
def signed_in(owner: User, account: Account) -> Iterator[None]:
    with acting_for(owner):
        yield


def make(owner: User, account: Account, **changes: Any) -> Bot:
    given: dict[str, Any] = {"name": "Wide net", "settings": FIXED, "symbols": ["BTC-USD"], "budget_pct": 50}
    return services.create_bot(owner, account=account, **given | changes)


def refusal(owner: User, account: Account, **changes: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        make(owner, account, **changes)
    return caught.value


def end(deal: Position) -> None:
    Position.objects.filter(pk=deal.pk).update(status=PositionStatus.CLOSED, closed_at=clock.now())


# Creating -----------------------------------------------------------------------------------------------------------


def test_a_new_bot_is_stopped_complete_and_written_down(
    owner: User, account: Account, btc: Product, eth: Product, signed_in: None
) -> None:
    bot = make(owner, account, symbols=["btc-usd", "ETH-USD", "BTC-USD"])
    bot.refresh_from_db()
    assert (bot.status, bot.next_check_at, bot.quote_currency) == (Bot.Status.STOPPED, None, "USD")
    assert DcaSettings.from_json(bot.settings).max_safety_orders == 2
    assert set(bot.settings) == set(DcaSettings.model_fields)  # stored complete, defaults included
    assert [row.product.symbol for row in bot.bot_products.select_related("product")] == ["BTC-USD", "ETH-USD"]
    entry = AuditEntry.objects.get(action="bot.created")
    assert (entry.user, entry.actor, entry.target) == (owner, owner.email, f"bot:{bot.pk}")
    assert Event.objects.get(kind="bot").payload["action"] == "created"


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"name": "  "}, "name", "missing_name"),
        ({"name": "x" * 81}, "name", "name_too_long"),
        ({"symbols": []}, "symbols", "no_pairs"),
        ({"symbols": ["DOGE-USD"]}, "symbols", "unknown_pair"),
        ({"symbols": ["BTC-USD", "ETH-BTC"]}, "symbols", "mixed_quotes"),
        ({"budget_kind": "half"}, "budget_kind", "unknown_budget_kind"),
        ({"budget_pct": "101"}, "budget_pct", "out_of_range"),
        ({"budget_pct": "-1"}, "budget_pct", "out_of_range"),
        ({"budget_pct": "NaN"}, "budget_pct", "not_a_number"),
        ({"budget_kind": "fixed", "budget_fixed": "0"}, "budget_fixed", "out_of_range"),
        ({"budget_kind": "fixed", "budget_fixed": "1e400"}, "budget_fixed", "out_of_range"),
        ({"strategy": "guessing"}, "strategy", "unknown_strategy"),
        ({"settings": FIXED | {"take_profit": "501"}}, "take_profit", "invalid_settings"),
        ({"settings": FIXED | {"colour": "blue"}}, "colour", "invalid_settings"),
    ],
)
def test_what_cannot_be_accepted_is_refused_with_its_field(
    owner: User, account: Account, btc: Product, signed_in: None, changes: dict[str, Any], field: str, code: str
) -> None:
    ProductFactory(symbol="ETH-BTC")
    error = refusal(owner, account, **changes)
    assert (error.field, error.code) == (field, code)
    assert not Bot.objects.exists()


def test_a_pair_that_is_not_traded_now_cannot_be_chosen(owner: User, account: Account, signed_in: None) -> None:
    ProductFactory(symbol="BTC-USD", status=Product.Status.DELISTED)
    assert refusal(owner, account).code == "pair_not_traded"


def test_f27_a_ladder_with_a_rung_below_the_minimum_is_refused_naming_pair_and_rung(
    owner: User, account: Account, signed_in: None
) -> None:
    ProductFactory(symbol="BTC-USD", min_quote=Decimal(50))
    error = refusal(owner, account, settings=FIXED | {"safety_order_size": "20"})
    assert (error.code, error.field, error.detail["pair"], error.detail["rung"]) == (
        "below_minimum",
        "settings",
        "BTC-USD",
        1,
    )
    assert "safety order 1" in error.message


def test_f27_the_short_side_of_a_bot_for_both_ways_is_checked_with_its_own_share(
    owner: User, account: Account, signed_in: None
) -> None:
    ProductFactory(symbol="BTC-USD", min_quote=Decimal(50))
    both = {"direction": "both", "long_share_pct": "90", "base_order_type": "automatic", "max_safety_orders": 2}
    error = refusal(owner, account, settings=both, budget_kind="fixed", budget_fixed=1000)
    assert (error.code, error.detail["pair"]) == ("below_minimum", "BTC-USD")
    assert "BTC-USD (short)" in error.message
    assert make(owner, account, settings=both | {"long_share_pct": "50"}, budget_kind="fixed", budget_fixed=1000)


def test_f33_a_budget_of_0_percent_is_nothing_and_refused_as_such(
    owner: User, account: Account, btc: Product, signed_in: None
) -> None:
    error = refusal(owner, account, budget_pct=0)
    assert (error.code, error.field) == ("no_budget", "budget_pct")


def test_a_currency_the_account_does_not_have_is_refused_with_what_to_do(
    owner: User, account: Account, signed_in: None
) -> None:
    ProductFactory(symbol="SOL-EUR")
    error = refusal(owner, account, symbols=["SOL-EUR"])
    assert error.code == "no_budget"
    assert "EUR" in error.message


def test_a_name_is_unique_among_the_bots_that_are_not_archived(
    owner: User, account: Account, btc: Product, signed_in: None
) -> None:
    bot = make(owner, account)
    assert refusal(owner, account, name=" Wide  net ").code == "name_taken"
    services.archive_bot(bot, owner.email)
    assert make(owner, account).name == "Wide net"


def test_the_number_of_bots_is_limited(owner: User, account: Account, btc: Product, signed_in: None) -> None:
    settings = GlobalSettings.load()
    settings.max_bots_per_user = 1
    settings.save()
    make(owner, account)
    error = refusal(owner, account, name="One more")
    assert (error.code, error.detail["limit"]) == ("too_many_bots", 1)


# Whose bot ----------------------------------------------------------------------------------------------------------


def test_a_managers_bot_belongs_to_the_account_and_names_its_maker(account: Account, btc: Product) -> None:
    manager = MembershipFactory(account=account, role=Membership.Role.MANAGER).user
    with acting_for(manager):
        bot = make(manager, account)
    assert (bot.owner_id, bot.created_by) == (account.owner_id, manager)
    with all_accounts("test"):
        assert set(Event.objects.values_list("user_id", flat=True)) == {account.owner_id, manager.pk}
        assert AuditEntry.objects.get().actor == manager.email


def test_f52_a_manager_learns_neither_names_nor_number_of_bots_on_other_accounts(
    account: Account, btc: Product
) -> None:
    elsewhere = AccountFactory(owner=account.owner)
    for name in ("Secret plan", "Secret plan 2", "x" * 80):
        BotFactory(account=elsewhere, name=name)
    manager = MembershipFactory(account=account, role=Membership.Role.MANAGER).user
    with acting_for(manager):
        assert services.free_name(account.owner, "Secret plan") == "Secret plan", "only names in sight count"
        bot = make(manager, account, name="Secret plan")
        assert re.fullmatch("Secret plan [0-9a-f]{4}", bot.name)
        assert re.fullmatch("x{75} [0-9a-f]{4}", make(manager, account, name="x" * 80).name)
        assert refusal(manager, account, name=bot.name).code == "name_taken", "that one they can see"
        renamed = services.update_bot(bot, actor=manager.email, name="Secret plan 2")
        assert re.fullmatch("Secret plan 2 [0-9a-f]{4}", renamed.name)
        assert services.update_bot(bot, actor=manager.email, name="Open plan").name == "Open plan"
    with all_accounts("test"):
        written = AuditEntry.objects.filter(action="bot.changed").order_by("pk").first()
        assert written is not None
        assert written.detail["changes"]["name"][1] == renamed.name, "the audit entry has the name that was stored"
    with acting_for(account.owner):
        assert refusal(account.owner, account, name="Secret plan").code == "name_taken"


def test_an_observer_changes_nothing(account: Account, btc: Product, owner: User) -> None:
    observer = MembershipFactory(account=account).user
    bot = BotFactory(account=account, products=[btc])
    with acting_for(observer):
        with pytest.raises(NotFound):
            make(observer, account)
        for act in (services.start_bot, services.stop_bot, services.archive_bot):
            with pytest.raises(NotFound):
                act(bot, observer.email)
        with pytest.raises(NotFound):
            services.update_bot(bot, actor=observer.email, name="Mine now")


def test_somebody_elses_account_and_bot_do_not_exist(account: Account, btc: Product) -> None:
    stranger = UserFactory()
    bot = BotFactory(account=account, products=[btc])
    with acting_for(stranger):
        with pytest.raises(NotFound):
            make(stranger, account)
        with pytest.raises(NotFound):
            services.start_bot(bot, stranger.email)


# Changing -----------------------------------------------------------------------------------------------------------


def test_a_change_grows_the_version_and_leaves_open_deals_alone(
    owner: User, account: Account, btc: Product, signed_in: None
) -> None:
    bot = make(owner, account)
    deal = PositionFactory(bot=bot, product=btc, open=True, settings=bot.settings)
    before = deal.settings
    services.update_bot(bot, actor=owner.email, settings=bot.settings | {"take_profit": "5"})
    bot.refresh_from_db()
    deal.refresh_from_db()
    assert (bot.settings_version, bot.settings["take_profit"]) == (2, "5")
    assert deal.settings == before
    assert AuditEntry.objects.get(action="bot.changed").detail["changes"] == {"settings.take_profit": ["3", "5"]}


def test_settings_that_came_later_are_no_change(owner: User, account: Account, btc: Product, signed_in: None) -> None:
    bot = make(owner, account)
    Bot.objects.filter(pk=bot.pk).update(settings={"take_profit": "3", **FIXED})
    services.update_bot(bot, actor=owner.email, settings=FIXED | {"take_profit": "4"})
    assert AuditEntry.objects.get(action="bot.changed").detail["changes"] == {"settings.take_profit": ["3", "4"]}


def test_saving_without_a_change_changes_nothing(owner: User, account: Account, btc: Product, signed_in: None) -> None:
    bot = make(owner, account)
    services.update_bot(bot, actor=owner.email, name=bot.name, settings=bot.settings, symbols=["BTC-USD"])
    bot.refresh_from_db()
    assert bot.settings_version == 1
    assert not AuditEntry.objects.filter(action="bot.changed").exists()


def test_the_quote_currency_is_locked_while_deals_are_open(
    owner: User, account: Account, btc: Product, signed_in: None
) -> None:
    ProductFactory(symbol="ETH-BTC", price_increment=Decimal("0.000001"), min_quote=Decimal("0.0001"))
    bot = make(owner, account)
    deal = PositionFactory(bot=bot, product=btc, open=True)
    changes = {"symbols": ["ETH-BTC"], "settings": FIXED | {"base_order_size": "0.01", "safety_order_size": "100"}}
    with pytest.raises(InvalidInput) as caught:
        services.update_bot(bot, actor=owner.email, **changes)
    assert (caught.value.code, caught.value.field) == ("quote_locked", "symbols")
    end(deal)
    assert services.update_bot(bot, actor=owner.email, **changes).quote_currency == "BTC"


def test_a_pair_with_an_open_deal_is_switched_off_not_taken_away(
    owner: User, account: Account, btc: Product, eth: Product, signed_in: None
) -> None:
    bot = make(owner, account, symbols=["BTC-USD", "ETH-USD"])
    PositionFactory(bot=bot, product=btc, open=True)
    services.update_bot(bot, actor=owner.email, symbols=["ETH-USD"])
    assert set(BotProduct.objects.values_list("product__symbol", "enabled")) == {("BTC-USD", False), ("ETH-USD", True)}
    services.update_bot(bot, actor=owner.email, symbols=["ETH-USD", "BTC-USD"])
    assert set(BotProduct.objects.values_list("product__symbol", "enabled")) == {("BTC-USD", True), ("ETH-USD", True)}


def test_an_unknown_change_is_refused_by_name(owner: User, account: Account, btc: Product, signed_in: None) -> None:
    bot = make(owner, account)
    with pytest.raises(InvalidInput) as caught:
        services.update_bot(bot, actor=owner.email, status="running")
    assert caught.value.field == "status"


# Starting and stopping ----------------------------------------------------------------------------------------------


def test_f1_starting_twice_is_starting_once(owner: User, account: Account, btc: Product, signed_in: None) -> None:
    bot = make(owner, account)
    first = services.start_bot(bot, owner.email)
    again = services.start_bot(bot, owner.email)
    assert first.is_running
    assert first.next_check_at == first.started_at == again.started_at
    assert AuditEntry.objects.filter(action="bot.started").count() == 1


def test_an_orphaned_bot_cannot_start_until_it_has_an_account(
    owner: User, account: Account, btc: Product, signed_in: None
) -> None:
    bot = BotFactory(account=None, owner=owner, products=[btc])
    with pytest.raises(InvalidInput) as caught:
        services.start_bot(bot, owner.email)
    assert caught.value.code == "bot_orphaned"
    services.assign_account(bot, account, owner.email)
    assert services.start_bot(bot, owner.email).is_running


def test_a_bot_without_a_traded_pair_cannot_start(owner: User, account: Account, btc: Product, signed_in: None) -> None:
    bot = make(owner, account)
    Product.objects.filter(pk=btc.pk).update(status=Product.Status.DELISTED)
    with pytest.raises(InvalidInput) as caught:
        services.start_bot(bot, owner.email)
    assert (caught.value.code, caught.value.field) == ("no_pairs", "symbols")


def test_a_stopped_bot_is_still_looked_at_while_a_deal_is_open(
    owner: User, account: Account, btc: Product, signed_in: None
) -> None:
    bot = services.start_bot(make(owner, account), owner.email)
    deal = PositionFactory(bot=bot, product=btc, open=True)
    assert services.stop_bot(bot, owner.email).next_check_at is not None
    end(deal)
    services.start_bot(bot, owner.email)
    assert services.stop_bot(bot, owner.email).next_check_at is None


# Putting away and moving --------------------------------------------------------------------------------------------


def test_f56_archiving_keeps_the_deals_and_waits_for_open_ones(
    owner: User, account: Account, btc: Product, signed_in: None
) -> None:
    bot = services.start_bot(make(owner, account), owner.email)
    deal = PositionFactory(bot=bot, product=btc, open=True)
    with pytest.raises(InvalidInput) as caught:
        services.archive_bot(bot, owner.email)
    assert caught.value.code == "has_open_deals"
    end(deal)
    archived = services.archive_bot(bot, owner.email)
    assert (archived.is_running, archived.next_check_at) == (False, None)
    assert Position.objects.get(pk=deal.pk).bot == bot


def test_a_bot_moves_to_the_same_symbols_on_the_accounts_market(owner: User, account: Account, btc: Product) -> None:
    other = AccountFactory(owner=owner, exchange="coinbase")
    there = ProductFactory(exchange="coinbase", symbol="BTC-USD")
    with acting_for(owner):
        bot = services.start_bot(make(owner, account), owner.email)
        moved = services.assign_account(bot, other, owner.email)
        assert (moved.account, moved.is_running) == (other, False)
        assert [row.product for row in moved.bot_products.select_related("product")] == [there]


def test_a_bot_with_open_deals_stays_where_it_is(owner: User, account: Account, btc: Product) -> None:
    other = AccountFactory(owner=owner)
    with acting_for(owner):
        bot = make(owner, account)
        PositionFactory(bot=bot, product=btc, open=True)
        with pytest.raises(InvalidInput) as caught:
            services.assign_account(bot, other, owner.email)
    assert (caught.value.code, caught.value.field) == ("has_open_deals", "account")


# Templates ----------------------------------------------------------------------------------------------------------


def test_presets_are_seeded_once_and_shown_to_everybody(owner: User, account: Account) -> None:
    assert templates.seed_presets() == templates.seed_presets() == 3
    with acting_for(owner):
        assert [row.slug for row in templates.presets()] == ["conservative", "balanced", "aggressive"]
        assert not BotTemplate.objects.exists()
        assert templates.find_template("balanced").settings["base_order_type"] == "automatic"


def test_a_template_is_its_owners_alone(owner: User, account: Account, btc: Product) -> None:
    with acting_for(owner):
        row = templates.save_as_template(owner, make(owner, account), "My ladder")
        assert templates.find_template(str(row.pk)) == row
        with pytest.raises(InvalidInput):
            templates.save_as_template(owner, make(owner, account, name="Second"), "My ladder")
    with acting_for(UserFactory()), pytest.raises(NotFound):
        templates.find_template(str(row.pk))
