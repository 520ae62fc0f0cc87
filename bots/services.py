"""Making, changing, starting and stopping bots: the only writer of ``Bot`` settings and of a bot's pairs.

Every refusal is an ``InvalidInput`` that names the field and the limit. Editing a bot never touches its open deals:
they keep the settings they opened with (``Position.settings``). Rows that hold money (deals, orders, fills) outlive
their bot, so a bot is archived, never deleted (F56).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from django.db import IntegrityError, transaction

from accounts.access import people_of_account
from accounts.models import Account, User
from bots import capital, strategies
from bots.models import Bot, BotProduct, BudgetKind
from marketdata.models import Product
from notifications.models import Event
from notifications.outbox import publish
from positions.booking import lock_account
from positions.guard.records import is_killed
from positions.models import Position
from positions.states import POSITION_ACTIVE
from tradebot.core import audit, clock
from tradebot.core.decimals import HUNDRED, ZERO, dec, plain
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.models import GlobalSettings
from tradebot.core.scoping import OwnedQuerySet, current_scope, detached

__all__ = [
    "MAX_PAIRS",
    "archive_bot",
    "assign_account",
    "checked_budget",
    "checked_products",
    "create_bot",
    "editable_account",
    "editable_bot",
    "free_name",
    "open_deal_count",
    "record",
    "start_bot",
    "stop_bot",
    "update_bot",
]

MAX_PAIRS: Final = 200
MAX_NAME: Final = Bot._meta.get_field("name").max_length or 80
CHANGEABLE: Final = ("name", "settings", "symbols", "budget_kind", "budget_pct", "budget_fixed", "split_budget")
NO_MORE_DIGITS: Final = Decimal(10) ** 20
NAME_TRIES: Final = 5


def create_bot(
    user: User,
    *,
    account: Account,
    name: str,
    strategy: str = "indicator_dca",
    settings: Mapping[str, Any],
    symbols: Iterable[str],
    budget_kind: str = BudgetKind.PERCENT,
    budget_pct: Decimal | int | str = 10,
    budget_fixed: Decimal | int | str = 0,
    split_budget: bool = True,
    created_by: User | None = None,
    origin: str = "",
) -> Bot:
    """Create a stopped bot on ``account`` and return it.

    The bot belongs to the account's owner; ``created_by`` (default ``user``) names who made it, so a manager's bot on
    a shared account is the account's. ``settings`` are checked against the strategy's schema and stored complete.
    ``budget_pct`` is percent of the account's value in the pairs' quote currency, ``budget_fixed`` an amount of it.
    ``origin`` says in the audit entry where the settings come from, when they were not typed. Raises InvalidInput
    naming the field, NotFound for an account the caller may not change.
    """
    account = editable_account(account)
    parsed = _parsed(strategy, settings)
    products = checked_products(account.exchange, symbols)
    bot = Bot(
        owner_id=account.owner_id,
        account=account,
        created_by=created_by or user,
        name=_name_for(account.owner_id, name),
        strategy=strategy,
        settings=parsed.to_json(),
        quote_currency=products[0].quote,
        **checked_budget(budget_kind, budget_pct, budget_fixed),
        split_budget=bool(split_budget),
    )
    capital.refuse_unworkable(parsed, products, account, _budget_of(bot))  # asks the venue, so before the transaction
    with transaction.atomic():
        _require_room(account.owner_id)
        _save(bot)
        BotProduct.objects.bulk_create([BotProduct(bot=bot, product=product) for product in products])
        detail = {"pairs": [product.symbol for product in products]} | ({"origin": origin} if origin else {})
        record(bot, (created_by or user).email, "bot.created", **detail)
    return bot


def update_bot(bot: Bot, *, actor: str, **changes: Any) -> Bot:
    """Change a bot and return it. ``changes`` may hold ``name``, ``settings``, ``symbols``, ``budget_kind``,
    ``budget_pct``, ``budget_fixed`` and ``split_budget``; what is left out stays.

    ``settings_version`` grows by one when anything changed. Open deals keep their frozen settings. A pair that is taken
    away while a deal is open on it is only switched off, so that the deal stays managed. Raises InvalidInput, NotFound.
    """
    unknown = set(changes) - set(CHANGEABLE)
    if unknown:
        raise InvalidInput("unknown_field", f"A bot has no field {min(unknown)!r} to change.", field=min(unknown))
    _refuse_unworkable_change(editable_bot(bot), changes)
    with transaction.atomic():
        bot = _locked(bot)
        before = _facts(bot)
        if "name" in changes:
            bot.name = _name_for(bot.owner_id, changes["name"], besides=bot.pk)
        if "settings" in changes:
            bot.settings = _parsed(bot.strategy, changes["settings"]).to_json()
        for name, value in _changed_budget(bot, changes).items():
            setattr(bot, name, value)
        if "symbols" in changes:
            products = _changed_products(bot, changes["symbols"])
            bot.quote_currency = products[0].quote
            _set_products(bot, products)
        if _changed(before, _facts(bot)):
            bot.settings_version += 1
            if bot.is_running:
                bot.next_check_at = clock.now()
            _save(bot)
            record(bot, actor, "bot.changed", changes=_changed(before, _facts(bot)))
    return bot


@transaction.atomic
def start_bot(bot: Bot, actor: str) -> Bot:
    """Start a bot: it is looked at within seconds. Starting a running bot changes nothing. Raises InvalidInput."""
    bot = _alone(bot)
    if bot.is_running:
        return bot
    if bot.archived_at is not None:
        raise InvalidInput("bot_archived", "An archived bot cannot be started.")
    account = bot.account
    if account is None:
        raise InvalidInput(
            "bot_orphaned", "The bot has no account, so it cannot run. Assign it to one first.", field="account"
        )
    if account.archived_at is not None:
        raise InvalidInput("account_archived", f"The account “{account.name}” is archived.", field="account")
    if is_killed(account.pk):
        raise InvalidInput(
            "guard_killed", f"The guard has stopped the account “{account.name}”. Release it first.", field="account"
        )
    rows = bot.bot_products.filter(enabled=True).exclude(product__status=Product.Status.DELISTED)
    if not rows.exists():
        raise InvalidInput("no_pairs", "The bot has no pair that is still traded. Choose one.", field="symbols")
    _parsed(bot.strategy, bot.settings)
    now = clock.now()
    bot.status, bot.started_at, bot.next_check_at, bot.last_error = Bot.Status.RUNNING, now, now, ""
    bot.save(update_fields=["status", "started_at", "next_check_at", "last_error"])
    record(bot, actor, "bot.started")
    return bot


@transaction.atomic
def stop_bot(bot: Bot, actor: str) -> Bot:
    """Stop a bot: it opens nothing more. While deals are open it is still looked at, adds and closes."""
    bot = _alone(bot)
    if not bot.is_running:
        return bot
    bot.status = Bot.Status.STOPPED
    if not open_deal_count(bot):
        bot.next_check_at = None
    bot.save(update_fields=["status", "next_check_at"])
    record(bot, actor, "bot.stopped")
    return bot


@transaction.atomic
def archive_bot(bot: Bot, actor: str) -> Bot:
    """Stop a bot and put it away. Its deals, orders and fills stay (F56). Raises InvalidInput while deals are open."""
    bot = _alone(bot)
    if bot.archived_at is not None:
        return bot
    if deals := open_deal_count(bot):
        raise InvalidInput(
            "has_open_deals",
            f"The bot still has {deals} open {_deals(deals)}. Close or cancel them first.",
            deals=deals,
        )
    bot.status, bot.next_check_at, bot.archived_at = Bot.Status.STOPPED, None, clock.now()
    bot.save(update_fields=["status", "next_check_at", "archived_at"])
    record(bot, actor, "bot.archived")
    return bot


@transaction.atomic
def assign_account(bot: Bot, account: Account, actor: str) -> Bot:
    """Put a bot, orphaned or without open deals, on another account of its owner. It is stopped by that.

    Its pairs become the same symbols on the account's market. Raises InvalidInput, NotFound.
    """
    account = editable_account(account)
    bot = _alone(bot)
    if bot.account_id == account.pk:
        return bot
    if account.owner_id != bot.owner_id:
        raise NotFound(message="There is no such account.")
    if account.archived_at is not None:
        raise InvalidInput("account_archived", f"The account “{account.name}” is archived.", field="account")
    if deals := open_deal_count(bot):
        raise InvalidInput(
            "has_open_deals",
            f"The bot has {deals} open {_deals(deals)} on its account. Close or cancel them before it moves.",
            field="account",
            deals=deals,
        )
    rows = list(bot.bot_products.select_related("product"))
    products = checked_products(account.exchange, [row.product.symbol for row in rows if row.enabled]) if rows else []
    before = bot.account.name if bot.account else None
    bot.account, bot.status, bot.next_check_at = account, Bot.Status.STOPPED, None
    bot.settings_version += 1
    _save(bot)
    if {product.pk for product in products} != {row.product_id for row in rows}:
        bot.bot_products.all().delete()
        BotProduct.objects.bulk_create([BotProduct(bot=bot, product=product) for product in products])
    record(bot, actor, "bot.assigned", changes={"account": [before, account.name]})
    return bot


def open_deal_count(bot: Bot) -> int:
    """Return how many deals of the bot are active, pending ones included."""
    return Position.objects.filter(bot=bot, status__in=POSITION_ACTIVE).count()


def free_name(owner: User, wanted: str) -> str:
    """Return ``wanted``, or the first of "wanted 2", "wanted 3" … that no bot of ``owner`` in sight has."""
    rows = Bot.objects.filter(owner_id=owner.pk, archived_at__isnull=True)
    taken = set(rows.values_list("name", flat=True))
    name, number = wanted[:MAX_NAME], 2
    while name in taken:
        suffix = f" {number}"
        name, number = wanted[: MAX_NAME - len(suffix)] + suffix, number + 1
    return name


# Checks -------------------------------------------------------------------------------------------------------------


def editable_account(account: Account) -> Account:
    """Return the account, fresh, if the caller may change it. Raises NotFound, InvalidInput for an archived one."""
    found = Account.objects.editable().filter(pk=account.pk).first()
    if found is None:
        raise NotFound(message="There is no such account.")
    if found.archived_at is not None:
        raise InvalidInput("account_archived", f"The account “{found.name}” is archived.", field="account")
    return found


def editable_bot(bot: Bot) -> Bot:
    """Return the bot, fresh, if the caller may change it. Raises NotFound."""
    return _one(Bot.objects.all(), bot)


def _locked(bot: Bot) -> Bot:
    """Return the bot, fresh and locked, if the caller may change it. Raises NotFound."""
    return _one(Bot.objects.select_for_update(of=("self",), no_key=True), bot)


def _alone(bot: Bot) -> Bot:
    """Return the bot like :func:`_locked`, its account locked first: no deal of it is being opened meanwhile.

    Deals are opened under the account's lock, and only while the bot runs. So whoever counts them under it and stops
    the bot leaves none behind that nobody watches. An account is archived under it too, while no bot of it runs.
    """
    found = editable_bot(bot)
    if found.account_id is not None:
        lock_account(found.account_id)
    return _locked(bot)


def _one(rows: OwnedQuerySet, bot: Bot) -> Bot:
    found: Bot | None = rows.editable().select_related("account").filter(pk=bot.pk).first()
    if found is None:
        raise NotFound(message="There is no such bot.")
    return found


def _name_for(owner_id: int, name: Any, besides: int | None = None) -> str:
    """Return the name as it is stored. Raises InvalidInput for one that another bot in the caller's sight has."""
    text = " ".join(str(name or "").split())
    if not text:
        raise InvalidInput("missing_name", "Give the bot a name.", field="name")
    if len(text) > MAX_NAME:
        raise InvalidInput(
            "name_too_long", f"The name has {len(text)} characters; at most {MAX_NAME} are allowed.", field="name"
        )
    if _is_seen(owner_id, text, besides):
        raise _name_taken(text)
    return text


def _is_seen(owner_id: int, name: str, besides: int | None) -> bool:
    """Return whether a bot that the caller may see has the name."""
    rows = Bot.objects.filter(owner_id=owner_id, name=name, archived_at__isnull=True)
    return rows.exclude(pk=besides).exists()


def _name_taken(name: str) -> InvalidInput:
    return InvalidInput("name_taken", f"Another bot is already called “{name}”. Choose another name.", field="name")


def _require_room(owner_id: int) -> None:
    """Raise InvalidInput at the limit of bots, counted under the owner's lock: two requests cannot both pass."""
    User.objects.select_for_update(no_key=True).get(pk=owner_id)
    limit = GlobalSettings.load().max_bots_per_user
    with detached("the limit counts all of the owner's bots, also those that a manager does not see"):
        count = Bot.objects.filter(owner_id=owner_id, archived_at__isnull=True).count()
    if count >= limit:
        raise InvalidInput(
            "too_many_bots",
            f"There are {limit} bots, which is the limit. Archive one that is no longer needed.",
            limit=limit,
        )


def _parsed(strategy: str, settings: Mapping[str, Any]) -> Any:
    """Return the settings as the strategy's validated model."""
    return strategies.get_strategy(strategy).settings_from_json(settings)


def _budget_of(bot: Bot) -> capital.Budget:
    return capital.Budget(bot.budget_kind, bot.budget_pct, bot.budget_fixed, bot.split_budget)


def _changed_budget(bot: Bot, changes: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: changes.get(name, getattr(bot, name)) for name in ("budget_kind", "budget_pct", "budget_fixed")}
    return {**checked_budget(**given), "split_budget": bool(changes.get("split_budget", bot.split_budget))}


def _changed_products(bot: Bot, symbols: Iterable[str]) -> list[Product]:
    """Return the bot's products as they shall be. Its quote currency is locked while deals are open."""
    rows = list(bot.bot_products.select_related("product"))
    exchange = bot.account.exchange if bot.account else (rows[0].product.exchange if rows else "")
    products = checked_products(exchange, symbols, known={row.product_id for row in rows})
    first = products[0]
    if first.quote != bot.quote_currency and (deals := open_deal_count(bot)):
        raise InvalidInput(
            "quote_locked",
            f"The bot has {deals} open {_deals(deals)} in {bot.quote_currency}; its pairs stay in that currency until "
            f"they are closed, and {first.symbol} is quoted in {first.quote}.",
            field="symbols",
        )
    return products


def _refuse_unworkable_change(bot: Bot, changes: Mapping[str, Any]) -> None:
    """Refuse a ladder that cannot be traded. Asks the venue, so it stands before the transaction."""
    if bot.account is None or not set(changes) - {"name"}:
        return
    parsed = _parsed(bot.strategy, changes.get("settings", bot.settings))
    if "symbols" in changes:
        products = _changed_products(bot, changes["symbols"])
    else:
        products = [row.product for row in bot.bot_products.filter(enabled=True).select_related("product")]
    budget = _changed_budget(bot, changes)
    given = capital.Budget(budget["budget_kind"], budget["budget_pct"], budget["budget_fixed"], budget["split_budget"])
    capital.refuse_unworkable(parsed, products, bot.account, given)


def checked_products(exchange: str, symbols: Iterable[str], known: Iterable[int] = ()) -> list[Product]:
    """Return the products in the order given. ``known`` ones may be off line or delisted: they are there already."""
    wanted = list(dict.fromkeys(str(symbol).strip().upper() for symbol in symbols if str(symbol).strip()))
    if not wanted:
        raise InvalidInput("no_pairs", "Choose at least one pair.", field="symbols")
    if len(wanted) > MAX_PAIRS:
        raise InvalidInput(
            "too_many_pairs", f"{len(wanted)} pairs; at most {MAX_PAIRS} are allowed.", field="symbols", limit=MAX_PAIRS
        )
    found = {row.symbol: row for row in Product.objects.filter(exchange=exchange, symbol__in=wanted)}
    held = set(known)
    for symbol in wanted:
        product = found.get(symbol)
        if product is None:
            raise InvalidInput(
                "unknown_pair", f"{symbol} is not traded on the account's market ({exchange}).", field="symbols"
            )
        if product.is_perpetual:
            raise InvalidInput(
                "perpetual_pair",
                f"{symbol} is a perpetual future; bots trade spot pairs only. It is opened by hand, under Perpetuals.",
                field="symbols",
            )
        if product.status != Product.Status.ONLINE and product.pk not in held:
            raise InvalidInput(
                "pair_not_traded", f"{symbol}: {product.get_status_display().lower()}. Choose another.", field="symbols"
            )
    products = [found[symbol] for symbol in wanted]
    quotes = sorted({product.quote for product in products})
    if len(quotes) > 1:
        raise InvalidInput(
            "mixed_quotes",
            f"A bot trades in one quote currency, these pairs use {' and '.join(quotes)}. Make a bot for each.",
            field="symbols",
        )
    return products


def checked_budget(budget_kind: Any, budget_pct: Any, budget_fixed: Any) -> dict[str, Any]:
    """Return the budget as a bot stores it. Raises InvalidInput naming the field."""
    if budget_kind not in BudgetKind.values:
        raise InvalidInput(
            "unknown_budget_kind", f"The budget is one of {', '.join(BudgetKind.values)}.", field="budget_kind"
        )
    pct = _number(budget_pct, "budget_pct", "The share of the account")
    fixed = _number(budget_fixed, "budget_fixed", "The amount")
    if not ZERO <= pct <= HUNDRED:
        raise InvalidInput(
            "out_of_range", f"The share is {plain(pct)} %; it lies between 0 and 100 %.", field="budget_pct"
        )
    if not ZERO <= fixed < NO_MORE_DIGITS:
        raise InvalidInput("out_of_range", "The amount cannot be below 0.", field="budget_fixed")
    if budget_kind == BudgetKind.FIXED and fixed == ZERO:
        raise InvalidInput(
            "out_of_range", "A fixed budget of 0 buys nothing. Give it an amount above 0.", field="budget_fixed"
        )
    return {"budget_kind": str(budget_kind), "budget_pct": pct, "budget_fixed": fixed}


def _number(value: Any, field: str, what: str) -> Decimal:
    try:
        return dec(value)
    except (TypeError, ValueError):
        raise InvalidInput("not_a_number", f"{what} has to be a number.", field=field) from None


# Writing ------------------------------------------------------------------------------------------------------------


def _save(bot: Bot) -> None:
    """Save the bot. Raises InvalidInput when another one in the caller's sight has taken its name meanwhile.

    Names are unique among all bots of the account's owner, also those on accounts that are not shared with a manager.
    To refuse the name of such a bot would tell of it, so the manager's bot gets letters behind its name instead, drawn
    at random: a number would tell how many there are.
    """
    wanted = bot.name
    for _ in range(NAME_TRIES):
        try:
            with transaction.atomic():
                bot.save()
            return
        except IntegrityError as error:
            if "name" not in str(error):
                raise
            scope = current_scope()
            if scope.unlimited or scope.owner_id == bot.owner_id or _is_seen(bot.owner_id, wanted, bot.pk):
                raise _name_taken(wanted) from error
            suffix = f" {secrets.token_hex(2)}"
            bot.name = wanted[: MAX_NAME - len(suffix)] + suffix
    raise _name_taken(wanted)


def _set_products(bot: Bot, products: list[Product]) -> None:
    """Make ``products`` the bot's pairs. One that goes while a deal is open on it is only switched off."""
    wanted = {product.pk for product in products}
    held = set(Position.objects.filter(bot=bot, status__in=POSITION_ACTIVE).values_list("product_id", flat=True))
    known = set(bot.bot_products.values_list("product_id", flat=True))
    bot.bot_products.exclude(product_id__in=wanted | held).delete()
    bot.bot_products.filter(product_id__in=held - wanted).update(enabled=False)
    bot.bot_products.filter(product_id__in=wanted, enabled=False).update(enabled=True)
    BotProduct.objects.bulk_create(
        [BotProduct(bot=bot, product=product) for product in products if product.pk not in known]
    )


def _facts(bot: Bot) -> dict[str, Any]:
    """Return what a person can change about a bot as plain values, for the comparison before and after."""
    pairs = bot.bot_products.filter(enabled=True).order_by("product__symbol").values_list("product__symbol", flat=True)
    return {
        "name": bot.name,
        "budget_kind": str(bot.budget_kind),
        "budget_pct": plain(bot.budget_pct),
        "budget_fixed": plain(bot.budget_fixed),
        "split_budget": bot.split_budget,
        "pairs": list(pairs),
        **{f"settings.{key}": value for key, value in _complete(bot).items()},
    }


def _complete(bot: Bot) -> Mapping[str, Any]:
    """Return the settings with those that came with a later version at their defaults: nobody has changed these."""
    try:
        found: Mapping[str, Any] = _parsed(bot.strategy, bot.settings).to_json()
    except InvalidInput:
        return bot.settings
    return found


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = [*before, *(name for name in after if name not in before)]
    return {name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)}


def _deals(count: int) -> str:
    return "deal" if count == 1 else "deals"


def record(bot: Bot, actor: str, action: str, **detail: Any) -> None:
    """Leave the audit entry and tell everybody who may see the bot."""
    audit.record(bot.owner_id, actor, action, f"bot:{bot.pk}", name=bot.name, **detail)
    people = people_of_account(bot.account_id) if bot.account_id else [bot.owner_id]
    payload = {"bot_id": bot.pk, "name": bot.name, "status": bot.status, "action": action.removeprefix("bot.")}
    publish(people, Event.Kind.BOT, payload, bot.account_id)
