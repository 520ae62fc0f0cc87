"""What is known about coins, answered in one place."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from marketdata import coins
from marketdata.models import Coin

pytestmark = pytest.mark.django_db


def test_a_persons_own_word_goes_before_the_operators() -> None:
    Coin.objects.create(code="DOGE", category="meme")
    known = coins.load()
    assert known.effective_category("DOGE") == "meme"
    assert known.effective_category("DOGE", {"DOGE": "approved"}) == "approved"
    assert known.effective_category("DOGE", {"SHIB": "approved"}) == "meme"


def test_a_coin_that_nobody_has_judged_is_unreviewed() -> None:
    Coin.objects.create(code="DAI", is_stable=True)
    assert coins.load().effective_category("XYZ") == ""
    assert coins.load().effective_category("DAI") == ""


def test_stable_coins_are_the_usual_ones_and_those_the_operator_names() -> None:
    Coin.objects.create(code="MYUSD", is_stable=True)
    known = coins.load(["MYUSD", "BTC"])
    assert all(known.is_stable(code) for code in ("USD", "USDC", "USDT", "DAI", "EUR", "GBP", "PYUSD", "MYUSD"))
    assert known.is_stable_pair("USDC", "USD")
    assert not known.is_stable_pair("BTC", "USD")


def test_all_coins_cost_one_query() -> None:
    Coin.objects.bulk_create([Coin(code=f"C{number}", category="approved") for number in range(50)])
    with CaptureQueriesContext(connection) as queries:
        known = coins.load([f"C{number}" for number in range(50)])
    assert len(queries) == 1
    assert known.effective_category("C49") == "approved"
