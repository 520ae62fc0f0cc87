"""Bybit's linear perpetuals in unified accounts: making ready for an order, positions, funding, liquidations.

* Leverage belongs to the contract, so it is set before an order that opens, where it differs.
* The margin mode belongs to the account, and with it to everything that is open there. It is set while no contract is
  open, and otherwise refused with words that say what to change at Bybit; so is hedge mode, in which a contract has two
  positions and ours cannot be told from the other.
* An opening order meets no position: Bybit would net it against one that no deal here knows.
* A liquidation is an order of Bybit's own. Its executions say so by their type (taken over, deleveraged) or by what
  created it (the steps of a liquidation that reduces the position).
* A contract that we do not list is told as Bybit calls it, so that nothing is hidden and no list fails over it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from accounts.exchanges.base import (
    ForcedClose,
    FundingMovement,
    NewOrder,
    OrderRef,
    OrderReport,
    VenuePosition,
)
from accounts.exchanges.ccxt.amounts import Unreadable, amount, millis, one_of, text
from accounts.exchanges.ccxt.connection import Connection
from accounts.exchanges.ccxt.dialect import unique
from accounts.exchanges.ccxt.rows import RowDialect
from marketdata.sources.base import PERPETUAL
from tradebot.core.decimals import ZERO
from tradebot.core.errors import VenueDenied, VenueRejected
from tradebot.core.words import Direction, MarginMode, OrderStatus, Side

__all__ = ["LINEAR", "SETTLED_IN", "UNLISTED", "BybitPerps", "is_forced", "is_perpetual", "windows"]

LINEAR: Final = {"category": "linear"}
SETTLED_IN: Final = "USDT"
ALL_CONTRACTS: Final = (
    {**LINEAR, "settleCoin": "USDT"},
    {**LINEAR, "settleCoin": "USDC"},
    {"category": "inverse"},
)
UNLISTED: Final = "linear:"
"""How the name of a contract begins that is not among our products."""
FORCED_TYPES: Final = ("BustTrade", "AdlTrade")
FORCED_BY: Final = ("CreateByLiq", "CreateByTakeOver_PassThrough", "CreateByAdl_PassThrough")
MODES: Final = {MarginMode.ISOLATED: "ISOLATED_MARGIN", MarginMode.CROSS: "REGULAR_MARGIN"}
ENDED: Final = (OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.REJECTED)
DIRECTIONS: Final = {"Buy": Direction.LONG, "Sell": Direction.SHORT}


def is_perpetual(symbol: str) -> bool:
    """Return whether one of our names, or one of a contract that we do not list, is about a contract."""
    return symbol.endswith(PERPETUAL) or symbol.startswith(UNLISTED)


def is_forced(row: Mapping[str, Any]) -> bool:
    """Return whether an execution belongs to a liquidation."""
    return row.get("execType") in FORCED_TYPES or row.get("createType") in FORCED_BY


def windows(start: datetime, end: datetime, longest: Any) -> Iterator[dict[str, int]]:
    """Return the stretches from ``start`` to ``end`` that may be asked for at once, in the venue's words."""
    while start < end:
        until = min(start + longest, end)
        yield {"startTime": int(start.timestamp() * 1000), "endTime": int(until.timestamp() * 1000)}
        start = until


class BybitPerps(RowDialect):
    """See the module. The requests that spot and contracts share are its subclass's."""

    @abstractmethod
    def pages(self, link: Connection, method: str, query: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
        """Return the rows of all pages of a list."""

    @abstractmethod
    def contract_executions(self, link: Connection, moment: datetime) -> Iterable[dict[str, Any]]:
        """Return the rows of the account's executions in contracts since ``moment``."""

    # Before an order --------------------------------------------------------------------------------------------------

    def arrange(self, link: Connection, order: NewOrder) -> None:
        """See :meth:`Dialect.arrange`."""
        if not is_perpetual(order.symbol):
            if order.reduce_only or order.leverage is not None or order.margin_mode is not None:
                raise VenueRejected("bad_order", f"{order.symbol} is traded without leverage.")
            return
        if order.base_size is None:
            raise VenueRejected("bad_order", "Orders on perpetuals are sized in base currency.")
        if order.reduce_only:
            if order.leverage is not None or order.margin_mode is not None:
                raise VenueRejected("bad_order", "An order that only reduces has no leverage.")
            return
        if order.leverage is None or order.leverage < 1 or order.margin_mode is None:
            raise VenueRejected("bad_leverage", "An order that opens a position has a leverage and a margin mode.")
        leverage = self._leverage_of_free_contract(link, order.symbol)
        changed = self._set_margin_mode(link, order.margin_mode)
        if changed or leverage != order.leverage:
            self._set_leverage(link, order.symbol, order.leverage)

    def _leverage_of_free_contract(self, link: Connection, symbol: str) -> Decimal | None:
        """Return the leverage that is set for a contract without a position. Raises VenueRejected."""
        word = str(self.market(link.client, symbol)["id"])
        found = list(self.pages(link, "private_get_v5_position_list", {**LINEAR, "symbol": word}))
        if any(amount(row, "positionIdx", ZERO) != ZERO for row in found):
            raise VenueRejected(
                "hedge_mode",
                f"Bybit keeps {word} of this account in hedge mode. Switch its position mode to one-way at Bybit, then "
                "place the order again.",
            )
        if any(amount(row, "size", ZERO) != ZERO for row in found):
            raise VenueRejected(
                "other_position",
                f"Bybit holds a position in {word} already that no open deal here explains. Close it there first.",
            )
        return amount(found[0], "leverage", ZERO) if found else None

    def _margin_mode(self, link: Connection) -> str:
        answer = link.read(lambda client: client.private_get_v5_account_info())
        return text(result_of(answer), "marginMode")

    def _set_margin_mode(self, link: Connection, wanted: MarginMode) -> bool:
        """Make the account's margin mode what is wanted and return whether it had to be changed. VenueRejected."""
        now = self._margin_mode(link)
        if now == MODES[wanted]:
            return False
        words = {word: str(mode) for mode, word in MODES.items()}.get(now, "portfolio")
        refusal = VenueRejected(
            "margin_mode_differs",
            f"This account's margin mode at Bybit is {words}, for all of its contracts, and the order wants {wanted}. "
            f"Choose {wanted} margin at Bybit, or open with the mode that is set there.",
            asked=str(wanted),
        )
        if now not in MODES.values() or self._holds_contracts(link):
            raise refusal
        try:
            answer = link.write(
                lambda client: client.private_post_v5_account_set_margin_mode({"setMarginMode": MODES[wanted]})
            )
        except VenueDenied:
            raise
        except VenueRejected as error:
            raise refusal from error
        if result_of(answer).get("reasons") or self._margin_mode(link) != MODES[wanted]:
            raise refusal
        return True

    def _holds_contracts(self, link: Connection) -> bool:
        """Return whether anything of the account would change with its margin mode: positions, working orders."""
        for query in ALL_CONTRACTS:
            found = self.pages(link, "private_get_v5_position_list", {**query, "limit": 50})
            if any(amount(row, "size", ZERO) != ZERO for row in found):
                return True
            if any(True for _ in self.pages(link, "private_get_v5_order_realtime", {**query, "limit": 50})):
                return True
        return False

    def _set_leverage(self, link: Connection, symbol: str, leverage: int) -> None:
        word = self.market(link.client, symbol)["id"]
        request = {**LINEAR, "symbol": word, "buyLeverage": str(leverage), "sellLeverage": str(leverage)}
        try:
            link.write(lambda client: client.private_post_v5_position_set_leverage(dict(request)), symbol=symbol)
        except VenueRejected as error:
            if error.code != "leverage_not_modified":
                raise

    # What the venue has and does --------------------------------------------------------------------------------------

    def positions(self, link: Connection) -> list[VenuePosition]:
        """See :meth:`PerpsVenue.positions`."""
        self.prepare(link)
        query = {**LINEAR, "settleCoin": SETTLED_IN, "limit": 200}
        found = self.pages(link, "private_get_v5_position_list", query)
        rows = [row for row in found if amount(row, "size") != ZERO]
        mode = {word: mode for mode, word in MODES.items()}.get(self._margin_mode(link)) if rows else None
        return [self._position(link.client, row, mode) for row in rows]

    def _position(self, client: Any, row: Mapping[str, Any], mode: MarginMode | None) -> VenuePosition:
        leverage = amount(row, "leverage", ZERO)
        return VenuePosition(
            self.symbol(client, text(row, "symbol"), is_contract=True),
            one_of(row, "side", DIRECTIONS),
            abs(amount(row, "size")),
            amount(row, "avgPrice"),
            leverage=int(leverage) if leverage > ZERO and leverage == int(leverage) else None,
            margin_mode=mode,
            margin=amount(row, "positionIM", ZERO) or None,
            liquidation_price=amount(row, "liqPrice", ZERO) or None,
        )

    def funding_movements(self, client: Any, found: Iterable[Mapping[str, Any]]) -> list[FundingMovement]:
        """Return what rows of the account's log say: received above zero, the market's rate for whichever side."""
        movements = []
        for row in found:
            rate: Decimal | None = amount(row, "feeRate") if row.get("feeRate") else None
            if rate is not None and row.get("side") == "Sell":
                rate = -rate  # told as what the holder of a short has to pay
            movements.append(
                FundingMovement(
                    text(row, "id"),
                    self.symbol(client, text(row, "symbol"), is_contract=True),
                    amount(row, "funding"),
                    millis(row, "transactionTime"),
                    rate if row.get("side") in DIRECTIONS else None,
                )
            )
        return movements

    def forced_closes_since(self, link: Connection, moment: datetime) -> list[ForcedClose]:
        """See :meth:`Dialect.forced_closes_since`."""
        self.prepare(link)
        forced: dict[str, str] = {}
        for row in self.contract_executions(link, moment):
            if is_forced(row):
                forced[text(row, "orderId")] = text(row, "symbol")
        found = [self._forced_close(link, order_id, word) for order_id, word in forced.items()]
        return [one for one in found if one is not None]

    def _forced_close(self, link: Connection, order_id: str, word: str) -> ForcedClose | None:
        """Return a liquidation once all of its executions are listed, those before the moment asked for included."""
        symbol = self.symbol(link.client, word, is_contract=True)
        query = {**LINEAR, "symbol": word, "orderId": order_id, "limit": 100}
        listed = [{**row, **LINEAR} for row in self.pages(link, "private_get_v5_execution_list", query)]
        made = [row for row in listed if is_forced(row) and text(row, "orderId") == order_id]
        trades = unique(self.trade(link.client, row).trade for row in made)
        base = sum((trade.base for trade in trades), ZERO)
        if not trades:
            return None
        known = self._row_of(link, OrderRef(None, symbol, order_id))
        if known is not None:
            order = self.snapshot(link.client, known)
            is_whole = order.status in ENDED and base >= order.filled_base
        else:  # what is taken over is an execution without an order
            is_whole = base >= max(amount(row, "orderQty", ZERO) for row in made)
        if not is_whole:
            return None
        side: Side = one_of(made[0], "side", self.order_columns.sides)
        report = OrderReport(None, order_id, OrderStatus.FILLED, tuple(trades), symbol=symbol)
        return ForcedClose(symbol, side, base, report)


def result_of(answer: Any) -> dict[str, Any]:
    """Return the ``result`` of an answer."""
    result = answer.get("result") if isinstance(answer, Mapping) else None
    if not isinstance(result, dict):
        raise Unreadable("result")
    return result
