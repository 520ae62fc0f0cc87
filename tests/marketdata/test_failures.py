"""What a failed request means: every family of ccxt's errors, every status, for reads and for writes."""

from __future__ import annotations

from typing import Any

import ccxt
import pytest

from marketdata.wire.client import Exchanged, NoAnswer, Unsigned, Wrong, client_of, decoded, exchanging
from marketdata.wire.failures import FAMILIES, Act, Meaning, Refusal, family_of, is_outage, translated
from tradebot.core.errors import (
    Remedy,
    VenueDenied,
    VenueRejected,
    VenueThrottled,
    VenueUnavailable,
    VenueUnknown,
)

READ, WRITE = Act.READ, Act.WRITE


def wire(status: int | None = 200, *, sent: bool = True, complete: bool = True, **more: Any) -> Exchanged:
    return Exchanged(1, "POST", "/orders", sent, status, complete, **more)


EXPECTED = {
    # what a complete answer of status 200 in this family means: (read, write)
    Meaning.NO: (VenueUnavailable, VenueRejected),
    Meaning.KEYS: (VenueDenied, VenueDenied),
    Meaning.SLOWER: (VenueThrottled, VenueThrottled),
    Meaning.CLOCK: (VenueUnavailable, VenueThrottled),
    Meaning.FAILED: (VenueUnavailable, VenueUnknown),
}
ANSWERS_A_QUESTION = ("unknown_order", "unknown_product", "not_found")


@pytest.mark.parametrize(("family", "meaning", "code"), FAMILIES, ids=[row[0] for row in FAMILIES])
def test_every_family_for_reads_and_writes(family: str, meaning: Meaning, code: str) -> None:
    error = getattr(ccxt, family)("venue said so")
    for act, expected in zip((READ, WRITE), EXPECTED[meaning], strict=True):
        got = translated(error, wire(), act, "Venue")
        if act is READ and code in ANSWERS_A_QUESTION:
            expected = VenueRejected
        assert type(got) is expected
        assert got.code == code


def test_every_error_that_ccxt_can_raise_has_a_row() -> None:
    """A family that ccxt adds is noticed here; the generic ones say nothing and have none on purpose."""

    def names(tree: dict[str, Any]) -> list[str]:
        return [name for key, below in tree.items() for name in (key, *names(below))]

    without = {"BaseError", "ExchangeError", "UnsubscribeError", "InvalidProxySettings", "ExchangeClosedByUser"}
    for name in names(ccxt.error_hierarchy):
        assert (family_of(getattr(ccxt, name)("")) is None) == (name in without), name


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 408, 409, 425])
@pytest.mark.parametrize("family", ["ExchangeError", "InvalidOrder", "InsufficientFunds", "RateLimitExceeded"])
def test_a_server_error_leaves_a_write_open_whatever_it_says(status: int, family: str) -> None:
    error = getattr(ccxt, family)("")
    refusal = Refusal("insufficient_funds")
    assert type(translated(error, wire(status), WRITE, "Venue", refusal)) is VenueUnknown
    assert type(translated(error, wire(status), READ, "Venue", refusal)) is VenueUnavailable


@pytest.mark.parametrize(
    ("made", "read", "write"),
    [
        (wire(None, sent=False, complete=False), VenueUnavailable, VenueThrottled),
        (wire(None, complete=False), VenueUnavailable, VenueUnknown),
        (wire(200, complete=False), VenueUnavailable, VenueUnknown),
        (wire(200), VenueUnavailable, VenueUnknown),
        (wire(400), VenueUnavailable, VenueRejected),
        (wire(404), VenueUnavailable, VenueRejected),
        (wire(401), VenueDenied, VenueDenied),
        (wire(403), VenueDenied, VenueDenied),
        (wire(429, retry_after=7.0), VenueThrottled, VenueThrottled),
        (wire(418), VenueThrottled, VenueThrottled),
    ],
    ids=["no connection", "no answer", "half", "unreadable", "400", "404", "401", "403", "429", "418"],
)
def test_what_happened_at_the_wire_decides(made: Exchanged, read: type, write: type) -> None:
    assert type(translated(NoAnswer("?"), made, READ, "Venue")) is read
    assert type(translated(NoAnswer("?"), made, WRITE, "Venue")) is write


def test_a_429_says_how_long_to_wait() -> None:
    error = translated(NoAnswer("?"), wire(429, retry_after=7.0), WRITE, "Venue")
    assert isinstance(error, VenueThrottled)
    assert (error.retry_after, error.remedy, error.outcome_known) == (7.0, Remedy.BACK_OFF, True)


def test_an_error_nobody_can_place_is_unknown_for_a_write() -> None:
    for error in (ccxt.ExchangeError("new"), KeyError("field"), TypeError("?")):
        got = translated(error, wire(), WRITE, "Venue")
        assert type(got) is VenueUnknown
        assert not got.outcome_known


def test_keys_that_cannot_sign_and_requests_that_were_never_made_are_known() -> None:
    nothing = Exchanged()
    assert translated(Unsigned("?"), nothing, WRITE, "Venue").code == "keys_unreadable"
    assert type(translated(ccxt.ArgumentsRequired("?"), nothing, WRITE, "Venue")) is VenueRejected
    assert type(translated(ccxt.AuthenticationError("?"), nothing, WRITE, "Venue")) is VenueDenied


def test_the_venues_own_words_come_before_its_family() -> None:
    refusal = Refusal("below_minimum", "Order value is too small")
    got = translated(ccxt.ExchangeError("?"), wire(400), WRITE, "Venue", refusal, base_size="0.1")
    assert (got.code, got.detail["base_size"]) == ("below_minimum", "0.1")
    assert "too small" in got.message


def test_what_counts_as_an_outage() -> None:
    assert is_outage(translated(NoAnswer("?"), wire(503), READ, "Venue"))
    assert is_outage(translated(NoAnswer("?"), wire(None, sent=False, complete=False), WRITE, "Venue"))
    assert not is_outage(translated(NoAnswer("?"), wire(429), READ, "Venue"))
    assert not is_outage(translated(ccxt.InsufficientFunds("?"), wire(400), WRITE, "Venue"))


# The client ----------------------------------------------------------------------------------------------------------


def test_no_float_comes_out_of_an_answer() -> None:
    assert decoded('{"a": 0.1, "b": [1e-8], "c": 3}') == {"a": "0.1", "b": ["1e-8"], "c": 3}
    for text in ('{"a": NaN}', '{"a": Infinity}', "<html>", ""):
        with pytest.raises(ValueError, match=r".*"):
            decoded(text)


def made(url: str, slug: str = "kraken") -> Any:
    return client_of(slug, url, default_url="https://api.kraken.com", read_seconds=0.3)


def test_a_client_speaks_to_one_address_only(httpserver: Any) -> None:
    client = made(httpserver.url_for(""))
    for url in ("http://127.0.0.1:1/x", "https://api.kraken.com/0/public/Time", f"{client.base_url}.evil.example/x"):
        with exchanging() as noted, pytest.raises(Wrong):
            client.fetch(url)
        assert noted.sent is False
    assert httpserver.log == []


def test_redirects_are_not_followed(httpserver: Any) -> None:
    httpserver.expect_request("/0/public/Time").respond_with_data("", 307, {"Location": "http://127.0.0.1:1/"})
    with pytest.raises(Wrong):
        made(httpserver.url_for("")).fetch_time()
    assert len(httpserver.log) == 1


def test_an_answer_that_drips_has_an_end(httpserver: Any) -> None:
    """A read's time-out begins again with every byte, so the whole has one too."""
    from werkzeug import Response

    from marketdata.wire import client as module

    assert module.LARGEST_ANSWER < 10**8
    httpserver.expect_request("/0/public/Time").respond_with_response(Response(b"x" * 600_000))
    before, module.LARGEST_ANSWER = module.LARGEST_ANSWER, 300_000
    try:
        with exchanging() as noted, pytest.raises(NoAnswer):
            made(httpserver.url_for("")).fetch_time()
    finally:
        module.LARGEST_ANSWER = before
    assert (noted.sent, noted.complete) == (True, False)


def test_nothing_of_a_request_stays_on_the_client(httpserver: Any) -> None:
    httpserver.expect_request("/0/private/Balance").respond_with_json({"error": [], "result": {}})
    client = client_of(
        "kraken", httpserver.url_for(""), default_url="https://api.kraken.com", api_key="k", secret="c2VjcmV0"
    )
    client.private_post_balance()
    signature = httpserver.log[0][0].headers["API-Sign"]
    assert signature
    held = {name: value for name, value in vars(client).items() if name not in ("secret", "apiKey")}
    assert signature not in repr(held)


def test_the_callers_decimal_context_is_as_it_was(httpserver: Any) -> None:
    """ccxt sets another rounding; whoever calls it does so in a context of its own, as Connection and sources do."""
    import decimal

    from tradebot.core.decimals import MONEY

    client = made(httpserver.url_for(""))
    with decimal.localcontext(MONEY) as before:
        with decimal.localcontext():
            client.decimal_to_precision("1.005", 1, decimal.Decimal("0.01"), 4)
        assert decimal.getcontext().rounding == before.rounding == decimal.ROUND_HALF_EVEN
