"""No secret leaves the process by itself, in whatever form a library carries it around."""

from __future__ import annotations

import base64
import io
import json
import logging
import logging.config
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import structlog

from tests.venue.keys import make_key, sign
from tradebot.core import redaction
from tradebot.core.crypto import Secret, generate_key, seal
from tradebot.core.errors import VenueRejected, VenueThrottled
from tradebot.core.logs import RedactingFormatter, without_secrets
from tradebot.core.redaction import REDACTED, described, redact, remember

TOKEN = "Zm9vYmFyLXRoaXMtaXMtc2VjcmV0"


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    redaction.forget()
    yield
    redaction.forget()


@pytest.mark.parametrize(
    "form",
    [
        TOKEN,
        f"key={TOKEN}&x=1",
        json.dumps({"a": TOKEN}),
        quote(f"{TOKEN}+/=", safe=""),
        base64.b64encode(TOKEN.encode()).decode(),
        f"it said <{TOKEN}>.",
    ],
)
def test_a_remembered_secret_is_taken_out_in_every_form(form: str) -> None:
    remember(TOKEN)
    remember(f"{TOKEN}+/=")
    assert TOKEN not in redact(form)
    assert base64.b64encode(TOKEN.encode()).decode().rstrip("=") not in redact(form)


def test_a_private_key_is_taken_out_whole_in_parts_and_with_escaped_line_ends() -> None:
    pem = make_key("somebody").secret
    body = pem.splitlines()[1:-1]
    Secret(pem)
    for text in (pem, pem.replace("\n", "\\n"), repr(pem), json.dumps(pem), f"could not read {body[0]}", pem[:100]):
        found = redact(text)
        assert not any(line[:30] in found for line in body), text


def test_what_looks_like_a_secret_goes_though_nobody_remembered_it() -> None:
    key = make_key("somebody")
    token = sign(key.name, key.secret, "GET", "localhost", "/x")
    for text in (
        f"Authorization: Bearer {token}",
        f"headers={{'Authorization': 'Bearer {token}'}}",
        key.secret,
        "X-MBX-APIKEY: abcdefgh12345678",
        "GET /order?signature=abcdef0123456789&timestamp=1",
        "{'apiKey': 'abcdef0123456789', 'secret': 'abcdef0123456789'}",
        '{"OK-ACCESS-PASSPHRASE": "abcdef0123456789"}',
        "password=abcdef0123456789",
    ):
        found = redact(text)
        assert REDACTED in found, text
        assert not any(part in found for part in (token, "abcdef0123456789", "abcdefgh12345678")), text


@pytest.mark.parametrize(
    "text",
    [
        "order.rejected order=12 code=insufficient_funds",
        "The venue says: Invalid API-key, IP, or permissions for action.",
        "GET /api/positions/?page=2 200",
        "deal 12 BTC-USD closed at 60000.01",
        "bots/tokens.css was not found",
    ],
)
def test_ordinary_lines_stay_as_they_are(text: str) -> None:
    remember(TOKEN)
    assert redact(text) == text


def test_short_words_are_not_taken_out_of_everything() -> None:
    remember("abc")
    remember("      ")
    assert redact("abc is short") == "abc is short"


def test_a_secret_is_remembered_when_it_is_read_from_the_database() -> None:
    sealed = seal(TOKEN, "row:1")
    redaction.forget()
    assert redact(TOKEN) == TOKEN
    Secret(sealed=sealed, binding="row:1").reveal()
    assert redact(TOKEN) == REDACTED


def test_a_venues_words_are_clean_before_they_are_stored() -> None:
    Secret(TOKEN)
    error = VenueRejected("denied", f"no key {TOKEN}", asked=f"signed {TOKEN}", number=3)
    assert (error.message, str(error), error.detail) == (
        f"no key {REDACTED}",
        f"no key {REDACTED}",
        {"asked": f"signed {REDACTED}", "number": 3},
    )
    assert VenueThrottled(message=f"slow {TOKEN}", retry_after=1).message == f"slow {REDACTED}"
    assert described(ValueError(f"bad {TOKEN}")) == f"ValueError: bad {REDACTED}"


def test_values_that_go_by_a_secrets_name_are_not_logged() -> None:
    event = {"event": "x", "api_secret": "two words here", "deep": {"passphrase": "a b"}, "list": [{"token": "t"}]}
    assert without_secrets(None, "info", event) == {
        "event": "x",
        "api_secret": REDACTED,
        "deep": {"passphrase": REDACTED},
        "list": [{"token": REDACTED}],
    }


@pytest.mark.parametrize("form", ["console", "json"])
def test_tracebacks_and_lines_of_other_libraries_pass_the_formatter(form: str) -> None:
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    )
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    chain = [structlog.stdlib.PositionalArgumentsFormatter(), structlog.processors.format_exc_info, without_secrets]
    handler.setFormatter(
        RedactingFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer], foreign_pre_chain=chain
        )
    )
    log = logging.getLogger(f"somebody.elses.{form}")
    log.addHandler(handler)
    log.propagate = False
    Secret(TOKEN)
    try:
        raise RuntimeError(f"401 for {TOKEN}")
    except RuntimeError:
        log.exception("request %s failed", f"https://x/?signature={TOKEN}")
    log.removeHandler(handler)
    assert stream.getvalue()
    assert TOKEN not in stream.getvalue()
    assert REDACTED in stream.getvalue()


def test_no_handler_writes_past_the_formatter() -> None:
    from django.conf import settings

    assert {row["formatter"] for row in settings.LOGGING["handlers"].values()} == {"main"}
    assert settings.LOGGING["formatters"]["main"]["()"] is RedactingFormatter
    for name in ("django", "django.server", "django.request"):
        assert logging.getLogger(name).handlers == [], name


def test_a_line_costs_little_with_a_thousand_keys() -> None:
    for _ in range(1000):
        remember(generate_key())
    line = "2026-11-29T12:00:00Z [info] order.submitted order=12 account=7 " * 4
    started = time.perf_counter()
    for _ in range(50):
        redact(line)
    assert (time.perf_counter() - started) / 50 < 0.02
