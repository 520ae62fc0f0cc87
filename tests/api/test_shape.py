"""What holds for the whole API: constant numbers of queries, a clean schema, documentation under the strict policy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from rest_framework.test import APIClient

from tests.api.conftest import ClientOf, People, make_people
from tests.factories import (
    AccountFactory,
    BacktestFactory,
    BotFactory,
    BotTemplateFactory,
    CoinReviewFactory,
    DecisionFactory,
    EventFactory,
    FillFactory,
    HistoryDownloadFactory,
    LeftOutFactory,
    OrderFactory,
    PanicRunFactory,
    PaperEntryFactory,
    PaperOrderFactory,
    PaperTradeFactory,
    PositionFactory,
    ProductFactory,
    SweepFactory,
    SweepPointFactory,
    TransferFactory,
    UnmatchedFillFactory,
    ValueSnapshotFactory,
)
from tradebot.api_urls import router


def grow(people: People, number: int) -> None:
    """Add ``number`` of everything that lists show, each with children of its own."""
    products = [ProductFactory(symbol=f"{name}-USD") for name in ("BTC", "ETH", "ADA")]
    for _ in range(number):
        AccountFactory(owner=people.ann, balances={"USD": 5, "BTC": 1})
        bot = BotFactory(account=people.account, products=products)
        DecisionFactory(bot=bot)
        BotTemplateFactory(owner=people.ann)
        CoinReviewFactory(owner=people.ann, code=f"C{bot.pk}")
        EventFactory(user=people.ann, account=people.account)
        BacktestFactory(owner=people.ann, bot=bot, status="finished")
        SweepPointFactory(sweep=SweepFactory(owner=people.ann, bot=bot))
        HistoryDownloadFactory(owner=people.ann)
        deal = PositionFactory(bot=bot, product=products[0], open=True)
        for _ in range(2):
            FillFactory(order=OrderFactory(position=deal, status="filled"))
        OrderFactory(position=deal, status="open")
        trade = PaperTradeFactory(order=PaperOrderFactory(account=people.account))
        PaperEntryFactory(account=people.account, kind="trade", trade=trade)
        TransferFactory(account=people.account)
        ValueSnapshotFactory(account=AccountFactory(owner=people.ann))
        LeftOutFactory(account=people.account)
        PanicRunFactory(account=people.account, finished=True)
        UnmatchedFillFactory(account=people.account)


@pytest.fixture(scope="module")
def grown(django_db_setup: None, django_db_blocker: Any) -> Iterator[tuple[People, People]]:
    """People with three of everything and people with fifteen, made once: those who ask for them only read."""
    with django_db_blocker.unblock(), transaction.atomic():
        few, many = make_people(), make_people()
        grow(few, 3)
        grow(many, 15)
        yield few, many
        transaction.set_rollback(True)


@pytest.fixture
def three(grown: tuple[People, People], db: None) -> People:
    """People with three of everything."""
    return grown[0]


@pytest.fixture
def fifteen(grown: tuple[People, People], db: None) -> People:
    """People with fifteen of everything."""
    return grown[1]


def queries(client: APIClient, path: str) -> tuple[int, int]:
    with CaptureQueriesContext(
        connection,
    ) as seen:
        answer = client.get(path)
    assert answer.status_code == 200
    return len(seen), len(answer.data["results"])


def lists() -> list[str]:
    return sorted(f"/api/{prefix}/" for prefix, _, _ in router.registry)


@pytest.mark.parametrize("path", [*lists(), "/api/accounts/{account}/entries/"])
def test_a_list_of_fifteen_takes_as_many_queries_as_one_of_three(
    three: People, fifteen: People, client_of: ClientOf, path: str
) -> None:
    def asked(people: People) -> tuple[int, int]:
        address = path.format(account=people.account.pk) + "?page_size=200"
        client = client_of(people.ann)
        client.get(address)  # what is looked up once per process
        return queries(client, address)

    (few, rows_of_few), (many, rows_of_many) = asked(three), asked(fifteen)
    assert rows_of_many > rows_of_few or "products" in path
    assert many == few
    assert few <= 20


@pytest.mark.parametrize("path", lists())
def test_pages_are_stable_and_bounded(three: People, client_of: ClientOf, path: str) -> None:
    client = client_of(three.ann)
    whole = [row["id"] for row in client.get(path).data["results"]]
    paged = [row["id"] for n in (1, 2) for row in client.get(f"{path}?page_size=2&page={n}").data["results"]]
    assert paged == whole[:4]
    assert client.get(f"{path}?page=999").status_code == 404
    assert len(client.get(f"{path}?page_size=100000").data["results"]) <= 200


@pytest.mark.parametrize("path", lists())
def test_every_resource_can_be_browsed(three: People, client_of: ClientOf, path: str) -> None:
    client = client_of(three.ann)
    first = client.get(path).data["results"][0]["id"]
    for address in (path, f"{path}{first}/"):
        answer = client.get(address, headers={"accept": "text/html"})
        assert answer.status_code == 200
        assert b"<html" in answer.content


def test_the_schema_is_complete_and_valid(capsys: pytest.CaptureFixture[str]) -> None:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    validate_schema(schema)
    complaints = capsys.readouterr().err
    assert "Warning" not in complaints
    assert "Error" not in complaints
    for prefix, _, _ in router.registry:
        assert f"/api/{prefix}/" in schema["paths"]


def test_amounts_are_strings_in_the_schema_too() -> None:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    fill = schema["components"]["schemas"]["Fill"]["properties"]
    assert {fill[name]["type"] for name in ("price", "base", "quote", "fee")} == {"string"}


def test_no_answer_holds_an_amount_as_a_float(three: People, client_of: ClientOf) -> None:
    client = client_of(three.ann)

    def floats(value: Any, at: str = "") -> list[str]:
        if isinstance(value, dict):
            return [found for name, inner in value.items() for found in floats(inner, f"{at}.{name}")]
        if isinstance(value, list):
            return [found for inner in value for found in floats(inner, at)]
        return [at] if isinstance(value, float) else []

    for path in lists():
        assert floats(json.loads(client.get(path).content)) == [], path


def test_the_documentation_needs_no_inline_script_or_style(people: People, client_of: ClientOf) -> None:
    page = client_of(people.ann).get("/api/docs/")
    text = page.content.decode()
    assert page.status_code == 200
    assert "'unsafe" not in page.headers["Content-Security-Policy"]
    assert "<style" not in text
    assert text.count("<script") == text.count("<script src=") == 3
    script = client_of(people.ann).get("/api/docs/?script=")
    assert script.headers["Content-Type"].startswith("application/javascript")
    assert client_of(people.ann).get("/api/schema/").status_code == 200


def test_the_documentation_is_for_people_who_are_signed_in(db: None) -> None:
    assert APIClient().get("/api/docs/").status_code == 302
    assert APIClient().get("/api/schema/").status_code == 401


@pytest.mark.parametrize("body", ["{", "[]", '"text"', "12", "nonsense", '{"name": "a", "name2": 1}'])
def test_bodies_that_are_none_are_refused_in_the_usual_shape(people: People, client_of: ClientOf, body: str) -> None:
    answer = client_of(people.ann).post("/api/accounts/", body, content_type="application/json")
    assert answer.status_code == 400
    assert set(answer.data) >= {"code", "detail", "field"}


def test_a_method_that_is_none_is_refused_in_the_usual_shape(people: People, client_of: ClientOf) -> None:
    answer = client_of(people.ann).put(f"/api/accounts/{people.account.pk}/", {}, format="json")
    assert (answer.status_code, answer.data["code"]) == (405, "method_not_allowed")
