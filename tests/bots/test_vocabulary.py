"""One list of indicators, operators and timeframes: engine, settings schema, API description and form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from django.test import Client

from bots.conditions import Condition, Join, Operator, Tree, evaluate, vocabulary
from bots.strategies.dca_settings import DcaSettings
from bots.strategies.heard import HeardView
from marketdata.indicators import INDICATORS
from marketdata.signals import SignalKind
from marketdata.timeframes import Timeframe
from tests.bots.building import START, candles, told, view
from tests.factories import AccountFactory, PaperTermsFactory, UserFactory

WORDS: dict[str, tuple[str, list[str]]] = {
    "indicator": ("bb_percent", [*INDICATORS]),
    "operator": ("crosses_above", [operator.value for operator in Operator]),
    "timeframe": ("12h", [timeframe.value for timeframe in Timeframe]),
}
"""By kind: a word by which a list of that kind is known, and the list that the engine has."""


@pytest.fixture
def browser(client: Client, db: None) -> Client:
    account = AccountFactory(owner=UserFactory(), is_default=True, balances={"USD": 1000})
    PaperTermsFactory(account=account)
    client.force_login(account.owner)
    return client


def lists(document: Any) -> Iterator[list[str]]:
    """Yield every list of allowed words in a schema document."""
    if isinstance(document, dict):
        words = document.get("enum")
        if isinstance(words, list):
            yield words
        for value in document.values():
            yield from lists(value)
    elif isinstance(document, list):
        for value in document:
            yield from lists(value)


def compare(document: Any) -> None:
    """Check that the document names each kind, and that every list of it is the engine's (filters are sorted)."""
    found = list(lists(document))
    for kind, (word, known) in WORDS.items():
        of_kind = [sorted(words) for words in found if word in words]
        assert of_kind, f"the document names no {kind}"
        assert all(words == sorted(known) for words in of_kind), kind


def test_f42_the_schema_of_a_condition_names_what_the_engine_knows() -> None:
    compare(Tree.model_json_schema())


def test_f42_the_settings_schema_of_the_api_names_what_the_engine_knows(browser: Client) -> None:
    for strategy in browser.get("/api/bots/settings-schema/").json():
        compare(strategy["json_schema"])


def test_f42_the_description_of_the_api_names_what_the_engine_knows(browser: Client) -> None:
    document = browser.get("/api/schema/", headers={"accept": "application/vnd.oai.openapi+json"}).json()
    schemas = document["components"]["schemas"]
    assert schemas["NewBot"]["properties"]["settings"] == {"$ref": "#/components/schemas/DcaSettings"}
    assert list(schemas["DcaSettings"]["properties"]) == list(DcaSettings.model_fields)
    compare(document)


def test_f42_the_form_offers_what_the_engine_knows(browser: Client) -> None:
    page = browser.post("/bots/new/", {"strategy": "indicator_dca", "action": "add_group:open_conditions"})
    text = page.content.decode()
    for kind, (_, known) in WORDS.items():
        select = re.search(rf'<select[^>]* name="t\.open_conditions\.0\.0\.{kind}".*?</select>', text, re.DOTALL)
        assert select is not None, kind
        options = re.findall(r'<option(?: value="([^"]*)")?[^>]*>([^<]*)</option>', select[0])
        assert [unescape(value or shown) for value, shown in options] == known, kind


def test_f42_the_vocabulary_is_the_registry() -> None:
    words = vocabulary()
    assert [entry["name"] for entry in words["indicators"]] == [*INDICATORS]
    assert [entry["name"] for entry in words["operators"]] == [*Operator]
    assert (words["joins"], words["timeframes"]) == ([*Join], [*Timeframe])
    for entry in words["indicators"]:
        spec = INDICATORS[entry["name"]]
        assert entry["outputs"] == [*spec.outputs]
        assert [param["name"] for param in entry["params"]] == [param.name for param in spec.params]


@pytest.mark.parametrize("indicator", INDICATORS)
@pytest.mark.parametrize("operator", Operator)
def test_f42_the_engine_judges_everything_that_is_offered(indicator: str, operator: Operator) -> None:
    shared = view(series={Timeframe.M1: candles([100 + index % 7 for index in range(300)])})
    look = HeardView(shared, {kind.value: told(START + 600) for kind in SignalKind})
    for output in INDICATORS[indicator].outputs:
        rule = Condition(indicator=indicator, timeframe=Timeframe.M1, operator=operator, value=1, output=output)
        (check,) = evaluate(Tree(items=(rule,)), look).checks
        assert check.state in ("met", "unmet")
        assert "()" not in check.label
        assert re.search(rf"\b{re.escape(operator.words)}\b", check.label)
