"""Bots as documents and copies: what goes out comes in again, what comes from outside is checked, ids mean nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from accounts.access import acting_for
from accounts.models import Account, Membership, User
from bots import portable, services
from bots.models import Bot
from marketdata.models import Product
from positions.models import Position
from tests.factories import AccountFactory, BotFactory, MembershipFactory, PositionFactory, ProductFactory, UserFactory
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.models import AuditEntry

pytestmark = pytest.mark.django_db

SETTINGS: dict[str, Any] = {
    "direction": "both",
    "long_share_pct": "60",
    "base_order_type": "fixed",
    "base_order_size": "20",
    "max_safety_orders": 2,
    "safety_order_size": "100",
    "deviation_reference": "base_order",
    "take_profit_steps": [{"profit_pct": "1", "share_pct": "50"}, {"profit_pct": "2", "share_pct": "50"}],
    "allowed_categories": ["approved"],
    "open_conditions": {"items": [{"indicator": "vwap", "timeframe": "5m", "operator": "<", "value": -1}]},
}


@pytest.fixture
def owner() -> User:
    return UserFactory()


@pytest.fixture
def account(owner: User) -> Account:
    return AccountFactory(owner=owner, balances={"USD": 10_000})


@pytest.fixture
def pairs() -> list[Product]:
    return [ProductFactory(symbol=symbol) for symbol in ("BTC-USD", "ETH-USD")]


@pytest.fixture
def elsewhere(owner: User) -> Account:
    """An account on another market, which trades one of the pairs."""
    ProductFactory(exchange="coinbase", symbol="BTC-USD")
    return AccountFactory(owner=owner, exchange="coinbase", balances={"USD": 10_000})


@pytest.fixture
def bot(owner: User, account: Account, elsewhere: Account, pairs: list[Product]) -> Iterator[Bot]:
    with acting_for(owner):
        yield services.create_bot(
            owner,
            account=account,
            name="Wide net",
            settings=SETTINGS,
            symbols=[pair.symbol for pair in pairs],
            budget_kind="fixed",
            budget_fixed="1000.5",
            split_budget=False,
        )


def same(one: Bot, other: Bot) -> bool:
    names = ("strategy", "settings", "budget_kind", "budget_pct", "budget_fixed", "split_budget", "quote_currency")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def symbols_of(bot: Bot) -> list[str]:
    return list(bot.bot_products.order_by("pk").values_list("product__symbol", flat=True))


def test_what_was_exported_comes_in_again_as_it_was(owner: User, account: Account, bot: Bot) -> None:
    text = json.dumps(portable.exported(bot))
    made = portable.import_bot(owner, account, portable.read_document(text))
    bot.refresh_from_db()
    made.bot.refresh_from_db()
    assert same(made.bot, bot)
    assert symbols_of(made.bot) == symbols_of(bot)
    assert (made.bot.name, made.bot.status, made.dropped) == ("Wide net 2", "stopped", ())
    assert AuditEntry.objects.filter(action="bot.created").latest("pk").detail["origin"] == "import"


def test_a_name_of_ones_own_goes_before_the_documents(owner: User, account: Account, bot: Bot) -> None:
    made = portable.import_bot(owner, account, portable.exported(bot), name="Mine")
    assert made.bot.name == "Mine"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"version": 2}, "version"),
        ({"version": "NaN"}, "version"),
        ({"format": "recipe"}, "format"),
        ({"id": 7}, "id"),
        ({"account": 1, "owner": 1}, "account"),
        ({"name": ""}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"name": ["a"]}, "name"),
        ({"settings": []}, "settings"),
        ({"settings": {"take_profit": "NaN"}}, "take_profit"),
        ({"settings": {"take_profit": 1e300}}, "take_profit"),
        ({"settings": {"base_order_size": "1e-999999"}}, "base_order_size"),
        ({"settings": {"safety_order_size": "1e-999999"}}, "safety_order_size"),
        ({"settings": {"colour": "blue"}}, "colour"),
        (
            {"settings": {"open_conditions": {"items": [{"indicator": "tea", "timeframe": "5m", "operator": "<"}]}}},
            "open_conditions",
        ),
        ({"symbols": []}, "symbols"),
        ({"symbols": "BTC-USD"}, "symbols"),
        ({"symbols": ["BTC-USD"] * 201}, "symbols"),
        ({"symbols": [{"$ne": 1}]}, "symbols"),
        ({"strategy": "martingale"}, "strategy"),
        ({"budget_kind": "all"}, "budget_kind"),
        ({"budget_pct": "-1"}, "budget_pct"),
        ({"budget_pct": "Infinity"}, "budget_pct"),
        ({"budget_fixed": "1e30"}, "budget_fixed"),
        ({"split_budget": "perhaps"}, "split_budget"),
    ],
)
def test_a_document_that_is_not_right_is_refused_with_its_field(
    owner: User, account: Account, bot: Bot, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        portable.import_bot(owner, account, portable.exported(bot) | changes)
    assert (caught.value.field or "").split(".")[0] == field
    assert Bot.objects.count() == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "missing_document"),
        (b"  ", "missing_document"),
        ("{", "not_json"),
        (b"\xff\xfe\x00", "not_json"),
        ("[" * 100_000, "not_json"),
        ("9" * 5_000, "not_json"),
        ("[]", "not_an_object"),
        ("null", "not_an_object"),
        ('{"a": "' + "x" * (256 * 1024) + '"}', "too_large"),
        (b"{" + b" " * (256 * 1024) + b"}", "too_large"),
    ],
)
def test_what_is_no_document_is_refused_before_it_is_looked_into(text: str | bytes, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        portable.read_document(text)
    assert (caught.value.code, caught.value.field) == (code, "document")


def test_pairs_that_the_market_does_not_trade_are_named_and_left_out(owner: User, account: Account, bot: Bot) -> None:
    Product.objects.filter(symbol="ETH-USD").update(status=Product.Status.OFFLINE)
    made = portable.clone_bot(bot, owner)
    assert (symbols_of(made.bot), made.dropped) == (["BTC-USD"], ("ETH-USD",))
    assert "ETH-USD is not traded" in made.message
    Product.objects.filter(symbol="BTC-USD").update(status=Product.Status.DELISTED)
    with pytest.raises(InvalidInput) as caught:
        portable.clone_bot(bot, owner)
    assert (caught.value.code, caught.value.field) == ("no_pairs", "symbols")
    assert "BTC-USD, ETH-USD" in caught.value.message


def test_a_clone_is_stopped_has_a_free_name_and_takes_no_deals_along(
    owner: User, bot: Bot, pairs: list[Product]
) -> None:
    services.start_bot(bot, owner.email)
    PositionFactory(bot=bot, product=pairs[0], open=True)
    made = portable.clone_bot(bot, owner)
    bot.refresh_from_db()
    made.bot.refresh_from_db()
    assert same(made.bot, bot)
    assert (made.bot.name, made.bot.status, made.bot.account_id) == ("Wide net 2", "stopped", bot.account_id)
    assert Position.objects.filter(bot=made.bot).count() == 0


def test_a_copy_trades_the_same_pairs_on_the_other_accounts_market(owner: User, bot: Bot, elsewhere: Account) -> None:
    made = portable.copy_bot(bot, elsewhere, owner)
    bot.refresh_from_db()
    made.bot.refresh_from_db()
    assert same(made.bot, bot)
    assert (symbols_of(made.bot), made.dropped) == (["BTC-USD"], ("ETH-USD",))
    assert made.bot.bot_products.get().product.exchange == "coinbase"
    with pytest.raises(InvalidInput) as caught:
        portable.copy_bot(bot, Account.objects.get(pk=bot.account_id), owner)
    assert (caught.value.code, caught.value.field) == ("same_account", "account")


def test_a_manager_copies_to_an_account_that_they_manage_and_it_belongs_to_that_accounts_owner(
    account: Account, owner: User, pairs: list[Product]
) -> None:
    manager = MembershipFactory(account=account, role=Membership.Role.MANAGER).user
    own = AccountFactory(owner=manager, balances={"USD": 1_000})
    bot = BotFactory(account=own, name="Theirs", products=pairs, settings=SETTINGS)
    with acting_for(manager):
        made = portable.copy_bot(bot, account, manager)
    assert (made.bot.owner_id, made.bot.created_by, made.bot.account_id) == (owner.pk, manager, account.pk)


def test_an_observer_copies_nothing_and_makes_nothing_on_an_observed_account(
    account: Account, pairs: list[Product]
) -> None:
    observer = MembershipFactory(account=account).user
    own = AccountFactory(owner=observer, balances={"USD": 1_000})
    seen = BotFactory(account=account, products=pairs, settings=SETTINGS)
    mine = BotFactory(account=own, products=pairs, settings=SETTINGS)
    with acting_for(observer):
        for act in (
            lambda: portable.clone_bot(seen, observer),
            lambda: portable.copy_bot(seen, own, observer),
            lambda: portable.copy_bot(mine, account, observer),
            lambda: portable.import_bot(observer, account, portable.exported(mine)),
        ):
            with pytest.raises(NotFound):
                act()
