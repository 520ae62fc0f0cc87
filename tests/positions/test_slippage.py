"""What an order would get from the order book."""

from __future__ import annotations

from decimal import Decimal

import pytest

from marketdata.sources.base import Book, BookLevel
from marketdata.sources.simulated import SimulatedSource
from positions import slippage
from tests.positions.conftest import MOMENT
from tradebot.core.errors import MissingInformation
from tradebot.core.words import Side


def levels(*rows: tuple[int, int]) -> tuple[BookLevel, ...]:
    return tuple(BookLevel(Decimal(price), Decimal(size)) for price, size in rows)


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the market shows."""
    shown = Book("BTC-USD", levels((99, 1), (98, 1)), levels((100, 1), (102, 3)), MOMENT)
    monkeypatch.setattr(SimulatedSource, "book", lambda *args, **kwargs: shown)


def ask(side: Side, base: str) -> slippage.Slippage:
    return slippage.expected("simulated", "BTC-USD", side, Decimal(base))


@pytest.mark.usefixtures("book")
def test_slippage_is_how_much_worse_than_the_best_price_the_whole_order_fills() -> None:
    found = ask(Side.BUY, "2")
    assert (found.best, found.average, found.pct, found.is_covered) == (100, 101, 1, True)
    assert ask(Side.BUY, "1").pct == 0
    sold = ask(Side.SELL, "2")
    assert (sold.best, sold.average, sold.is_covered) == (99, Decimal("98.5"), True)
    assert round(sold.pct, 6) == Decimal("0.505051")


@pytest.mark.usefixtures("book")
def test_an_order_larger_than_the_book_is_not_covered() -> None:
    found = ask(Side.SELL, "5")
    assert (found.offered, found.is_covered) == (2, False)


def test_an_empty_side_is_no_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedSource, "book", lambda *args, **kwargs: Book("BTC-USD", (), (), MOMENT))
    with pytest.raises(MissingInformation, check=lambda error: error.code == "empty_book"):
        ask(Side.BUY, "1")
