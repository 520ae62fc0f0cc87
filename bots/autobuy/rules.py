"""A person's auto-buy rules: made, changed, removed. Each act leaves an audit entry with the account's owner."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from django.db import transaction

from accounts.models import Account, AutoBuyRule
from bots.autobuy import service
from bots.autobuy.deciding import ACTOR
from marketdata import coins, sources
from marketdata.models import Product
from positions import keeping
from positions.booking import lock_account
from positions.guard.records import is_killed
from positions.states import OrderType
from tradebot.core import audit, clock
from tradebot.core.decimals import ZERO, dec, plain
from tradebot.core.errors import InvalidInput, NotFound, OrderRefused
from tradebot.core.scoping import current_scope

__all__ = ["CHANGEABLE", "currencies_for", "remove_rule", "set_rule"]

CHANGEABLE: Final = ("enabled", "coin", "minimum", "order_type", "limit_offset_pct")
LARGEST: Final = Decimal(10) ** 12
MOST_RULES: Final = 20


def currencies_for(account: Account, coin: str = "BTC") -> list[str]:
    """Return the stable currencies that ``coin`` can be bought with on the account's market."""
    known = coins.load()
    rows = Product.objects.filter(exchange=account.exchange, base=coin, status=Product.Status.ONLINE)
    return sorted(quote for quote in rows.values_list("quote", flat=True).distinct() if known.is_stable(quote))


def set_rule(account: Account, currency: str, actor: str, **changes: Any) -> AutoBuyRule:
    """Make or change the account's rule for ``currency`` and return it; what is left out stays, or is the default.

    Only the owner may. Switching a rule off cancels what it has resting, so this never runs inside a transaction: a
    venue may be called. Raises InvalidInput naming the field, NotFound.
    """
    unknown = sorted(set(changes) - set(CHANGEABLE))
    if unknown:
        raise InvalidInput("unknown_field", f"There is no {unknown[0]}.", field=unknown[0])
    name = str(currency).strip().upper()
    with transaction.atomic():
        account = _owned(account)
        if account.archived_at is not None:
            raise InvalidInput("archived", f"{account.name} is archived.")
        if account.exchange == sources.REPLAY:
            raise InvalidInput("no_auto_buy", "A recording has a clock of its own; auto-buy needs the present.")
        rule = AutoBuyRule.objects.filter(account=account, currency=name).first()
        if rule is None:
            if AutoBuyRule.objects.filter(account=account).count() >= MOST_RULES:
                raise InvalidInput("too_many_rules", f"An account has at most {MOST_RULES} rules.", limit=MOST_RULES)
            rule = AutoBuyRule(account=account, currency=name)
        before = {field: getattr(rule, field) for field in CHANGEABLE}
        for field, value in changes.items():
            setattr(rule, field, _checked(field, value))
        _check_pair(account, rule)
        if rule.enabled and is_killed(account.pk):
            raise InvalidInput("guard_killed", "The account's guard has stopped it. Release it first.", field="enabled")
        after = {field: getattr(rule, field) for field in CHANGEABLE}
        changed = {field: [before[field], after[field]] for field in CHANGEABLE if before[field] != after[field]}
        if changed or rule.pk is None:
            rule.changed_at = clock.now()
            rule.last_code, rule.last_message, rule.last_numbers, rule.last_looked_at = "", "", {}, None
            rule.save()
            _note(account, actor, "auto_buy_rule", currency=name, changes=changed)
    if not rule.enabled:
        _cancel(rule)
    return rule


def remove_rule(account: Account, currency: str, actor: str) -> None:
    """Take a rule away with its trail; what it has resting is cancelled. Raises NotFound."""
    with transaction.atomic():
        account = _owned(account)
        rule = AutoBuyRule.objects.filter(account=account, currency=str(currency).strip().upper()).first()
        if rule is None:
            raise NotFound("no_rule", "There is no such rule.")
        name = rule.currency
        rule.delete()
        _note(account, actor, "auto_buy_removed", currency=name)
    _cancel(rule)


def _cancel(rule: AutoBuyRule) -> None:
    """Cancel what the rule has resting; a cancel that the venue does not confirm is repeated by the loop."""
    for position in keeping.under_way(rule.account_id, service.MINE, product__quote=rule.currency):
        try:
            keeping.give_up(position, ACTOR)
        except OrderRefused as refusal:
            service.log.info("auto_buy.not_cancelled", position=position.pk, code=refusal.code)


def _check_pair(account: Account, rule: AutoBuyRule) -> None:
    symbol = f"{rule.coin}-{rule.currency}"
    known = coins.load([rule.coin, rule.currency])
    if not known.is_stable(rule.currency):
        raise InvalidInput(
            "not_stable", f"{rule.currency} is not a stable currency; auto-buy spends only those.", field="currency"
        )
    if known.is_stable(rule.coin):
        raise InvalidInput("stable_coin", f"{rule.coin} is itself a stable currency.", field="coin")
    product = Product.objects.filter(exchange=account.exchange, symbol=symbol).first()
    if product is None or (rule.enabled and product.status == Product.Status.DELISTED):
        raise InvalidInput("unknown_pair", f"{symbol} is not traded on the account's market.", field="currency")
    if rule.enabled and rule.minimum < product.min_quote:
        raise InvalidInput(
            "out_of_range",
            f"The market takes no order below {plain(product.min_quote)} {rule.currency}.",
            field="minimum",
            minimum=product.min_quote,
        )


def _checked(field: str, value: Any) -> Any:
    if field == "enabled":
        return bool(value)
    if field == "coin":
        coin = str(value).strip().upper()
        if not (coin.isalnum() and coin.isascii() and len(coin) <= 20):
            raise InvalidInput("bad_coin", "A coin is up to 20 letters and digits, such as BTC.", field="coin")
        return coin
    if field == "order_type":
        if value not in set(OrderType):
            raise InvalidInput("unknown_order_type", "An order is market or limit.", field="order_type")
        return str(OrderType(value))
    lowest, highest = (ZERO, Decimal(50)) if field == "limit_offset_pct" else (Decimal("0.01"), LARGEST)
    try:
        number = dec(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput("not_a_number", "It has to be a number.", field=field) from error
    if not lowest <= number <= highest or number != round(number, 18):
        raise InvalidInput(
            "out_of_range", f"It is a number from {plain(lowest)} to {plain(highest)}.", field=field, asked=number
        )
    return number


def _owned(account: Account) -> Account:
    """Return the account, locked, if the bound scope is its owner's (or the system's)."""
    scope = current_scope()
    row = Account.objects.filter(pk=account.pk).first()
    if row is None or not (scope.unlimited or scope.owner_id == row.owner_id):
        raise NotFound("no_account", "There is no such account.")
    return lock_account(account.pk)


def _note(account: Account, actor: str, action: str, **detail: Any) -> None:
    audit.record(account.owner_id, actor, action, f"account:{account.pk}", name=account.name, **detail)
