"""A recording, a bot on its market, and a finished backtest of that bot."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts.models import Account
from bots.backtesting.models import Backtest
from bots.models import Bot
from marketdata.models import Product
from tests.bots.recordings import SETTINGS, WAVE, recording
from tests.factories import AccountFactory, BotFactory
from tests.looking import everything
from tests.pages.backtests.asking import typed, work


@pytest.fixture
def product(db: None) -> Product:
    return recording("BTC-USD", WAVE * 40)


@pytest.fixture
def bot(account: Account, product: Product) -> Bot:
    """A bot on an account of the recording's market."""
    replay = AccountFactory(owner=account.owner, exchange="replay", name="Recorded", balances={"USD": 1000})
    found: Bot = BotFactory(account=replay, name="Dip ladder", products=[product], settings=SETTINGS, budget_pct=80)
    return found


@pytest.fixture
def run(browser: Client, bot: Bot) -> Backtest:
    """A finished backtest of the bot."""
    response = browser.post("/backtests/new/", typed(origin=f"bot:{bot.pk}", **{"r.name": "Waves"}))
    assert response.status_code == 302, response.context["draft"].errors
    work()
    found: Backtest = everything(Backtest).get()
    assert (found.status, found.error) == ("finished", "")
    return found
