"""The public market data API: any signed-in user may read, nobody may write."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory, force_authenticate

from marketdata.api import ProductViewSet
from tests.marketdata.factories import make_product

pytestmark = pytest.mark.django_db


@pytest.fixture
def ask(db: None):
    user = get_user_model().objects.create_user(email="ada@example.org", password="correct horse")

    def call(
        actions: dict[str, str], query: dict[str, Any] | None = None, signed_in: bool = True, **at: Any
    ) -> Response:
        request = APIRequestFactory().get("/", query or {})
        if signed_in:
            force_authenticate(request, user)
        return ProductViewSet.as_view(actions)(request, **at)

    return call


def symbols(response: Response) -> list[str]:
    assert response.status_code == 200
    return [row["symbol"] for row in response.data["results"]]


def test_products_are_filtered_and_searched(ask) -> None:
    make_product("BTC-USD")
    make_product("ETH-BTC", status="delisted")
    make_product("BTC-USD", exchange="simulated")
    assert len(symbols(ask({"get": "list"}))) == 3
    assert symbols(ask({"get": "list"}, {"exchange": "coinbase", "status": "online"})) == ["BTC-USD"]
    assert symbols(ask({"get": "list"}, {"quote": "BTC"})) == ["ETH-BTC"]
    assert symbols(ask({"get": "list"}, {"search": "eth"})) == ["ETH-BTC"]


def test_terms_are_plain_strings(ask) -> None:
    product = make_product("BTC-USD")
    row = ask({"get": "retrieve"}, pk=product.pk).data
    assert (row["base_increment"], row["min_quote"]) == ("0.00000001", "1")


def test_candles_and_ticker_of_the_simulated_market(ask, moment: datetime) -> None:
    product = make_product("BTC-USD", exchange="simulated")
    answer = ask({"get": "candles"}, {"timeframe": "15m", "count": 5}, pk=product.pk)
    assert answer.status_code == 200
    assert [row["time"] for row in answer.data["candles"]] == [1_713_960_000 - n * 900 for n in range(5, 0, -1)]
    ticker = ask({"get": "ticker"}, pk=product.pk).data
    assert float(ticker["bid"]) < float(ticker["mark"]) < float(ticker["ask"])


@pytest.mark.parametrize("query", [{"timeframe": "7m"}, {"count": 0}, {"count": 100_000}, {"count": "many"}])
def test_bad_questions_name_the_field(ask, query: dict[str, Any]) -> None:
    product = make_product("BTC-USD", exchange="simulated")
    answer = ask({"get": "candles"}, query, pk=product.pk)
    assert answer.status_code == 400
    assert answer.data["field"] == next(iter(query))


def test_f34_an_unknown_price_is_said_to_be_unknown(ask, moment: datetime) -> None:
    product = make_product("ADA-BTC", exchange="replay")
    answer = ask({"get": "ticker"}, pk=product.pk)
    assert (answer.status_code, answer.data["code"]) == (409, "unknown_price")


def test_strangers_read_nothing_and_nobody_writes(ask) -> None:
    product = make_product("BTC-USD", exchange="simulated")
    for actions, at in (
        ({"get": "list"}, {}),
        ({"get": "candles"}, {"pk": product.pk}),
        ({"get": "ticker"}, {"pk": product.pk}),
    ):
        assert ask(actions, signed_in=False, **at).status_code in (401, 403)
    assert set(ProductViewSet.http_method_names) >= {"get"}
    assert not any(hasattr(ProductViewSet, name) for name in ("create", "update", "partial_update", "destroy"))
