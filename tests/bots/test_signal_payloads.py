"""What senders send, in their several ways: read as one alert, or refused with the field."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.signals.payloads import Alert, alert_of, fields_of, matching, secret_of
from marketdata.signals import SignalAction, SignalKind
from tradebot.core.errors import InvalidInput

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def read(body: str | dict[str, Any]) -> Alert:
    return alert_of(fields_of((json.dumps(body) if isinstance(body, dict) else body).encode()))


def test_our_own_json() -> None:
    body = {
        "secret": "s",
        "pair": "ETH-USD",
        "kind": "ai_buy",
        "confidence": 72.5,
        "reasoning": "volume  rises\nagain",
        "sent_at": "2026-01-31T12:00:00Z",
        "id": 17,
    }
    assert read(body) == Alert(
        kind=SignalKind.AI_BUY,
        pair="ETH-USD",
        confidence=72.5,
        reasoning="volume rises again",
        external_id="17",
        sent_at=NOON,
    )


@pytest.mark.parametrize(
    "body",
    [
        '{"ticker": "COINBASE:ETHUSD", "action": "buy", "time": "2026-01-31T12:00:00Z", "close": 2400.5}',
        '{"ticker": "COINBASE:ETHUSD", "strategy": {"order": {"action": "buy"}}, "timenow": "2026-01-31T12:00:00Z"}',
        "ticker=COINBASE:ETHUSD action=buy time=2026-01-31T12:00:00Z",
        'ticker: "COINBASE:ETHUSD", side: long; timestamp: 1769860800',
        '{"symbol": "COINBASE:ETHUSD", "side": "LONG", "time": 1769860800000}',
    ],
)
def test_the_dialects_of_tradingview_mean_one_alert(body: str) -> None:
    assert read(body) == Alert(pair="COINBASE:ETHUSD", action=SignalAction.BUY, sent_at=NOON)


def test_the_secret_is_found_in_json_and_in_text() -> None:
    assert secret_of(fields_of(b'{"secret": "abc"}')) == "abc"
    assert secret_of(fields_of(b"secret=abc ticker=ETHUSD")) == "abc"
    assert secret_of(fields_of(b'{"secret": ["abc"]}')) == ""


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("", "body"),
        ("{", "body"),
        ('{"a": NaN}', "body"),
        ("[1]", "body"),
        ("\x00\x01", "body"),
        ("ETHUSD buy secret=abc", "body"),
        ('{"kind": "moon"}', "kind"),
        ('{"kind": ["webhook"]}', "kind"),
        ('{"action": "{{strategy.order.action}}"}', "action"),
        ('{"kind": "ai_buy", "confidence": 70, "action": "sell"}', "action"),
        ('{"kind": "ai_sell"}', "confidence"),
        ('{"confidence": 101}', "confidence"),
        ('{"confidence": -0.1}', "confidence"),
        ('{"confidence": "sure"}', "confidence"),
        ('{"confidence": true}', "confidence"),
        ('{"confidence": "nan"}', "confidence"),
        ('{"sent_at": "yesterday"}', "sent_at"),
        ('{"sent_at": 1e300}', "sent_at"),
        ('{"sent_at": {}}', "sent_at"),
        ('{"id": "' + "x" * 101 + '"}', "id"),
        ('{"pair": {"base": "ETH"}}', "pair"),
    ],
)
def test_what_cannot_be_read_is_refused_by_field(body: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(body)
    assert refused.value.field == field


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(InvalidInput):
        fields_of(b"\xff\xfe")


def test_all_pairs_are_meant_only_when_said() -> None:
    assert read({"pair": "ALL"}).every_pair
    assert read("pair=* action=sell").every_pair
    assert not read({"action": "sell"}).every_pair


def test_times_without_a_zone_are_utc() -> None:
    assert read({"sent_at": "2026-01-31 12:00"}).sent_at == NOON
    assert read({"sent_at": "2026-01-31T13:00:00+01:00"}).sent_at == NOON


@given(st.binary(max_size=300))
def test_whatever_is_sent_is_read_or_refused(body: bytes) -> None:
    try:
        alert = alert_of(fields_of(body))
    except InvalidInput:
        return
    assert len(alert.external_id) <= 100
    assert len(alert.pair) <= 60


@given(
    st.dictionaries(
        st.sampled_from(["pair", "kind", "action", "confidence", "id", "time", "text"]), st.from_type(object)
    )
)
def test_whatever_a_json_says_is_read_or_refused(fields: dict[str, Any]) -> None:
    try:
        body = json.dumps(fields)
    except (TypeError, ValueError, UnicodeEncodeError):
        return
    try:
        alert = alert_of(fields_of(body.encode()))
    except InvalidInput:
        return
    assert alert.confidence is None or 0 <= alert.confidence <= 100


SYMBOLS = ["ETH-USD", "BTC-USD", "A-BUSD", "AB-USD"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ETH-USD", "ETH-USD"),
        ("eth-usd", "ETH-USD"),
        ("ETH/USD", "ETH-USD"),
        ("ETHUSD", "ETH-USD"),
        ("COINBASE:ETHUSD", "ETH-USD"),
        ("A-BUSD", "A-BUSD"),
        ("ABUSD", None),
        ("ETHUSDT", None),
        ("ETHUSD.P", None),
        ("{{ticker}}", None),
        ("", None),
        (":", None),
    ],
)
def test_a_pair_is_found_however_it_is_written_and_never_guessed(written: str, meant: str | None) -> None:
    assert matching(written, SYMBOLS) == meant
