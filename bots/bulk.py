"""What a person does to all deals of a bot at once: what it would come to, and the honest answer for each deal.

Each deal goes through ``positions.manual`` on its own, so one that fails stops none of the others. A running bot opens
again as soon as its rule holds; whoever does not want that stops it along with this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import structlog
from django.db import transaction

from accounts.models import Account
from bots.models import Bot
from bots.services import editable_bot, record, stop_bot
from positions import manual
from positions.cards import DealCard, deal_cards
from positions.manual import CloseFailure, CloseState
from positions.models import Position
from positions.states import POSITION_ACTIVE
from tradebot.core.decimals import ZERO, for_money
from tradebot.core.errors import TradebotError

__all__ = ["BulkPreview", "DealAnswer", "bulk_preview", "cancel_all", "said", "sell_all", "stop_all"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DealAnswer:
    """How one deal came out: ``state`` is closed, dust, working, nothing_held, cancelled or failed."""

    position: Position
    state: str
    message: str
    code: str = ""

    @property
    def failed(self) -> bool:
        """Return whether the deal is as it was before, or nobody knows."""
        return self.state == "failed"


@dataclass(frozen=True, slots=True)
class BulkPreview:
    """The open deals of a bot and what they add up to now, in ``quote``. A sum is None while a price is not known."""

    cards: tuple[DealCard, ...]
    quote: str
    invested: Decimal
    value: Decimal | None
    unrealised: Decimal | None

    @property
    def count(self) -> int:
        """Return how many deals there are."""
        return len(self.cards)


def bulk_preview(bot: Bot) -> BulkPreview:
    """Return what the bot's open deals are worth at present prices, fees of closing included. Reads only."""
    cards = deal_cards(_open_deals(bot))
    with for_money():
        held = [card for card in cards if card.held]
        results = [card.figures.unrealised for card in held]
        known = [result for result in results if result is not None]
        complete = len(known) == len(results)
        return BulkPreview(
            cards=tuple(cards),
            quote=bot.quote_currency,
            invested=sum((card.invested or ZERO for card in held), ZERO),
            value=sum((result.value for result in known), ZERO) if complete else None,
            unrealised=sum((result.profit for result in known), ZERO) if complete else None,
        )


def sell_all(bot: Bot, actor: str, *, stop: bool = False) -> list[DealAnswer]:
    """Close every open deal of the bot at market and return an answer for each; ``stop`` stops the bot first.

    Raises NotFound when the caller may not change the bot. Never runs inside a transaction: venues are called.
    """
    bot = _started(bot, actor, stop)
    return _recorded(bot, actor, "bot.sold_all", [_sold(found) for found in manual.close_all(_open_deals(bot), actor)])


def cancel_all(bot: Bot, actor: str, *, stop: bool = False) -> list[DealAnswer]:
    """Give every open deal of the bot up: its orders are cancelled, its coins stay. Otherwise like :func:`sell_all`."""
    bot = _started(bot, actor, stop)
    return _recorded(bot, actor, "bot.cancelled_all", [_cancelled(deal, actor) for deal in _open_deals(bot)])


def stop_all(account: Account, actor: str) -> int:
    """Stop every bot that runs on the account, all or none, and return how many. Writes rows only."""
    with transaction.atomic():
        running = list(Bot.objects.filter(account=account, status=Bot.Status.RUNNING).order_by("pk"))
        for bot in running:
            stop_bot(bot, actor)
    return len(running)


def said(answers: Sequence[DealAnswer], done: str) -> str:
    """Return the answers in one sentence; ``done`` is what was to happen, such as "closed"."""
    if not answers:
        return "The bot has no open deal: there was nothing to do."
    failed = sum(answer.failed for answer in answers)
    working = sum(answer.state == CloseState.WORKING for answer in answers)
    parts = [f"{len(answers) - failed - working} of {len(answers)} {done}"]
    parts += [f"{working} sent and not confirmed yet"] if working else []
    parts += [f"{failed} failed"] if failed else []
    return ", ".join(parts) + "."


def _open_deals(bot: Bot) -> list[Position]:
    rows = Position.objects.filter(bot=bot, status__in=POSITION_ACTIVE).select_related("product", "account", "bot")
    return list(rows.order_by("pk"))


def _started(bot: Bot, actor: str, stop: bool) -> Bot:
    bot = editable_bot(bot)
    return stop_bot(bot, actor) if stop else bot


def _sold(found: manual.Closing | CloseFailure) -> DealAnswer:
    if isinstance(found, CloseFailure):
        return DealAnswer(found.position, "failed", found.message, found.code)
    return DealAnswer(found.position, str(found.state), found.message)


def _cancelled(deal: Position, actor: str) -> DealAnswer:
    try:
        return DealAnswer(manual.cancel_deal(deal, actor), "cancelled", "Cancelled; its coins stay in the account.")
    except TradebotError as error:
        return DealAnswer(deal, "failed", error.message, error.code)
    except Exception:  # the loop's edge: the other deals are to be cancelled all the same
        log.exception("cancel.failed", position=deal.pk)
        return DealAnswer(deal, "failed", "Something went wrong here. The deal is unchanged or ending.", "error")


def _recorded(bot: Bot, actor: str, action: str, answers: list[DealAnswer]) -> list[DealAnswer]:
    record(bot, actor, action, deals=len(answers), failed=sum(answer.failed for answer in answers))
    return answers
