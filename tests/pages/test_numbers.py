"""How numbers, ages and times are written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from tradebot.core import clock
from tradebot.templatetags import tradebot as tags

ETH_BTC = SimpleNamespace(
    price_increment=Decimal("0.000001"), base_increment=Decimal("0.0001"), quote_increment=Decimal("0.00000001")
)


@pytest.mark.parametrize(
    ("value", "how", "text"),
    [
        (Decimal("1234567.891"), "USD", "1\u2009234\u2009567.89"),
        (Decimal("-0.5"), "USD", "\u22120.50"),
        (Decimal("0.00096"), "BTC", "0.000960"),
        (Decimal("6547"), None, "6\u2009547"),
        (Decimal("1E+3"), None, "1\u2009000"),
        (Decimal("0.100"), None, "0.1"),
        (Decimal("1E-12"), 8, "0.00000000"),
        (None, "USD", "–"),
        ("", "USD", "–"),
        (float("nan"), "USD", "–"),
        (0.1, 2, "0.10"),
    ],
)
def test_amounts_have_thin_spaces_a_real_minus_and_the_currencys_places(value: object, how: object, text: str) -> None:
    assert tags.amount(value, how) == text


def test_prices_and_sizes_keep_the_products_precision() -> None:
    assert tags.price(Decimal("0.09"), ETH_BTC) == "0.090000"
    assert tags.base(Decimal("6.23"), ETH_BTC) == "6.2300"
    assert tags.quote(Decimal("0.1"), ETH_BTC) == "0.10000000"
    assert tags.price(None, ETH_BTC) == "–"


@pytest.mark.parametrize(
    ("value", "html"),
    [
        (Decimal("110.57"), '<span class="num up">+110.57</span>'),
        (Decimal("-1008.32"), '<span class="num down">\u22121\u2009008.32</span>'),
        (Decimal(0), '<span class="num flat">0.00</span>'),
        (Decimal("-0.001"), '<span class="num flat">0.00</span>'),
        (None, '<span class="faint">–</span>'),
    ],
)
def test_profit_has_sign_arrow_and_colour_of_what_is_written(value: Decimal | None, html: str) -> None:
    assert tags.signed(value, "USD") == html


def test_the_percentage_beside_a_profit_has_no_second_arrow() -> None:
    assert tags.signed_pct(Decimal("-5.45")) == '<span class="num noarrow down">\u22125.45\u00a0%</span>'


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (61, "1 m 1 s"), (3600, "1 h"), (133_200, "1 d 13 h"), (86_400, "1 d"), (None, "–")],
)
def test_ages_have_two_units(seconds: float | None, text: str) -> None:
    assert tags.span(seconds) == text


def test_age_counts_from_the_clocks_moment() -> None:
    moment = datetime(2018, 1, 16, 20, 30, tzinfo=UTC)
    with clock.at(moment):
        assert tags.age(moment - timedelta(days=1, hours=13)) == "1 d 13 h"
        assert tags.age(None) == "–"


def test_times_are_in_the_readers_zone() -> None:
    moment = datetime(2018, 1, 16, 23, 14, tzinfo=UTC)
    with timezone.override(ZoneInfo("Europe/Berlin")), clock.at(moment):
        assert tags.localtime(moment) == "17 Jan 2018, 00:14"
        assert tags.localtime(moment, "short") == "00:14"
        assert tags.localtime(moment - timedelta(hours=1), "short") == "16 Jan"
        assert tags.localtime(moment, "full") == "Wednesday 17 January 2018, 00:14:00 CET"
