"""What one currency is worth in another: the shortest path, never a guess."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.conversion import HUBS, Rates

PRICES = {
    "BTC-USD": Decimal(50_000),
    "BTC-USDC": Decimal(50_100),
    "ETH-BTC": Decimal("0.05"),
    "XYZ-USDC": Decimal("2.004"),
    "ABC-USDT": Decimal(3),
    "ZERO-USD": Decimal(0),
}


@pytest.mark.parametrize(
    ("currency", "into", "rate"),
    [
        ("USD", "USD", "1"),
        ("BTC", "USD", "50000"),
        ("USD", "BTC", "0.00002"),  # turned round
        ("ETH", "USD", "2500"),  # over BTC
        ("ETH", "USDC", "2505"),
        ("XYZ", "BTC", "0.00004"),  # over USDC: 2.004 / 50100
        ("XYZ", "USD", "2"),  # over USDC and BTC: 0.00004 × 50000
    ],
)
def test_the_shortest_path_is_taken(currency: str, into: str, rate: str) -> None:
    found = Rates(PRICES).rate(currency, into)
    assert found is not None
    assert abs(found - Decimal(rate)) < Decimal("1E-30")


def test_f34_what_no_path_leads_to_has_no_rate() -> None:
    rates = Rates(PRICES)
    assert rates.rate("ABC", "USD") is None  # nothing says what a USDT is worth
    assert rates.rate("NEW", "BTC") is None
    assert rates.rate("ZERO", "USD") is None  # a price of zero is no price
    assert rates.value(Decimal(5), "NEW", "USD") is None
    assert rates.value(Decimal(0), "NEW", "USD") == 0  # nothing of it is worth nothing


def test_a_stable_coin_is_worth_what_the_market_says() -> None:
    usdc = Rates(PRICES).rate("USDC", "USD")
    assert usdc is not None
    assert usdc < 1


@given(
    st.dictionaries(
        st.tuples(st.sampled_from([*HUBS, "ETH"]), st.sampled_from([*HUBS, "ETH"])).map("-".join),
        st.decimals("0.0001", "100000", places=4),
        max_size=8,
    ),
    st.sampled_from([*HUBS, "ETH"]),
    st.sampled_from([*HUBS, "ETH"]),
)
def test_a_way_there_is_a_way_back(prices: dict[str, Decimal], one: str, other: str) -> None:
    rates = Rates(prices)
    there, back = rates.rate(one, other), rates.rate(other, one)
    assert (there is None) == (back is None)
    assert there is None or there > 0
