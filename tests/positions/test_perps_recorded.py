"""Perpetual deals over a real recording of a perpetual, candle by candle as a replay goes: books and deals agree."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from accounts.models import Account, PaperBalance, PaperEntry
from marketdata.models import Product
from marketdata.sources.replay import import_file
from positions import manual, perps
from positions.models import Position
from positions.perps_loop import tend_account
from positions.states import Direction
from tests.factories import AccountFactory, PaperTermsFactory
from tradebot.core import clock
from tradebot.core.decimals import ZERO
from tradebot.core.errors import MissingInformation
from tradebot.core.scoping import acting_for_account

D = Decimal
CANDLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "candles"
RECORDING = Path(os.environ.get("CANDLES", CANDLES)) / "XRP-USDT-PERP_5m_2021-11.csv.gz"
LOOKS = 120


@pytest.mark.data
@pytest.mark.skipif(not RECORDING.exists(), reason="there is no recording of a perpetual")
@pytest.mark.parametrize("direction", list(Direction))
def test_deals_over_a_recording_leave_books_that_agree(db: None, direction: Direction) -> None:
    series = import_file(RECORDING)
    product = Product.objects.get(exchange="replay", symbol="XRP-USDT-PERP")
    account: Account = AccountFactory(exchange="replay", balances={"USDT": 1000})
    PaperTermsFactory(account=account)
    start = datetime.fromtimestamp(series.start, UTC)
    with acting_for_account(account.pk):
        for look in range(1, LOOKS + 1):
            with clock.at(start + timedelta(minutes=5 * look)):
                _step(account, product, direction)
        with clock.at(start + timedelta(minutes=5 * (LOOKS + 1))):
            for deal in Position.objects.filter(closed_at=None):
                manual.close_at_market(deal, "a")
        deals = list(Position.objects.all())
        assert len(deals) > 3
        assert {deal.status for deal in deals} == {"closed"}
        assert len({deal.exit_reason for deal in deals}) > 1
        balance = PaperBalance.objects.get(account=account, currency="USDT")
        entries = sum(PaperEntry.objects.filter(account=account).values_list("amount", flat=True), ZERO)
        assert balance.held == ZERO
        assert balance.total == entries == D(1000) + sum((deal.realised_quote for deal in deals), ZERO)


def _step(account: Account, product: Product, direction: Direction) -> None:
    tend_account(account.pk)
    if Position.objects.filter(closed_at=None).exists():
        return
    try:
        plan, _ = perps.plan_of(account, product, direction, 10, perps.MarginMode.ISOLATED, margin=D(20))
    except MissingInformation:
        return
    away = plan.price * D("0.004") * direction.sign
    perps.open_position(
        account,
        product,
        direction,
        actor="a",
        leverage=10,
        margin=D(20),
        take_profit=plan.price + away,
        stop_loss=plan.price - away,
    )
