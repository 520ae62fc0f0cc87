"""Recorded candles as a market: import, terms, quotes at the clock's moment."""

from __future__ import annotations

import gzip
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from marketdata import market, sources
from marketdata.models import Candle, Product
from marketdata.sources.replay import ReplaySource, import_file
from marketdata.store import CandleStore
from marketdata.timeframes import Timeframe
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, MissingInformation

pytestmark = pytest.mark.django_db

START = datetime(2018, 1, 10, 4, 55, tzinfo=UTC)


def recording(
    folder: Path, name: str, rows: list[tuple[object, ...]], header: str = "time,open,high,low,close,volume"
) -> Path:
    path = folder / name
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
    else:
        path.write_text("\n".join(lines))
    return path


@pytest.fixture
def ada(tmp_path: Path) -> Product:
    """Five-minute candles with float noise; the third period had no trades."""
    at = int(START.timestamp())
    rows: list[tuple[object, ...]] = [
        (at, "5.330000000000001e-05", "5.4e-05", "5.2e-05", "5.2900000000000005e-05", 431.5),
        (at + 300, "5.29e-05", "5.294e-05", "5.269e-05", "5.27e-05", 311.25),
        (at + 900, "5.27e-05", "5.31e-05", "5.26e-05", "5.3e-05", 100.0),
    ]
    series = import_file(recording(tmp_path, "ADA-BTC_5m_2018-01.csv.gz", rows))
    return series.product


def test_terms_follow_from_the_recording(ada: Product, tmp_path: Path) -> None:
    assert ada.price_increment == Decimal("0.00000001")
    assert (ada.min_quote, ada.base_increment, ada.min_base) == (Decimal("0.0001"), Decimal("0.01"), Decimal("0.01"))
    row = (int(START.timestamp()), 42283.58, 42300.5, 42180.77, 42250.0, 12.5)
    btc = import_file(recording(tmp_path, "BTC-USDT_5m_x.csv", [row])).product
    assert (btc.price_increment, btc.base_increment, btc.min_quote) == (
        Decimal("0.01"),
        Decimal("0.0000001"),
        Decimal(1),
    )
    perp = import_file(recording(tmp_path, "XRP-USDT-PERP_5m_x.csv", [(row[0], 1.1893, 1.1954, 1.1891, 1.1941, 5)]))
    assert (perp.product.kind, perp.product.base, perp.product.price_increment) == (
        "perpetual",
        "XRP",
        Decimal("0.0001"),
    )


def test_prices_are_rid_of_float_noise(ada: Product) -> None:
    assert Candle.objects.filter(product=ada).order_by("time").first().open == 5.33e-05


def test_quotes_are_the_last_close_at_the_clocks_moment(ada: Product) -> None:
    def last(moment: datetime) -> Decimal | None:
        quote = market.quote("replay", "ADA-BTC", moment)
        return quote and quote.last

    assert last(START + timedelta(seconds=299)) is None
    assert last(START + timedelta(seconds=300)) == Decimal("0.0000529")
    assert last(START + timedelta(seconds=601)) == Decimal("0.0000527")
    assert last(START + timedelta(seconds=1199)) == Decimal("0.0000527")
    assert last(START + timedelta(seconds=1200)) == Decimal("0.000053")
    assert last(START + timedelta(seconds=1499)) == Decimal("0.000053")


def test_f34_a_recording_that_is_over_has_no_price(ada: Product) -> None:
    for moment in (START - timedelta(days=1), START + timedelta(seconds=1500), START + timedelta(days=3)):
        assert market.quotes("replay", ["ADA-BTC", "NO-BTC"], moment) == {}
        with pytest.raises(MissingInformation):
            market.book("replay", "ADA-BTC", now=moment)


def test_quotes_say_what_the_last_candle_traded(ada: Product) -> None:
    quote = market.quote("replay", "ADA-BTC", START + timedelta(seconds=1200))
    assert quote is not None
    assert (quote.traded_base, quote.low, quote.high) == (Decimal(100), Decimal("0.0000526"), Decimal("0.0000531"))
    silent = market.quote("replay", "ADA-BTC", START + timedelta(seconds=900))
    assert silent is not None
    assert silent.traded_base == 0
    book = market.book("replay", "ADA-BTC", now=START + timedelta(seconds=1200))
    assert [level.size for level in (*book.bids, *book.asks)] == [Decimal(100)] * 2
    assert market.book("replay", "ADA-BTC", now=START + timedelta(seconds=900)).asks == ()


def test_the_spread_widens_around_the_close(ada: Product) -> None:
    with clock.at(START + timedelta(seconds=300)):
        quote = ReplaySource(spread_pct=Decimal(1)).tickers(["ADA-BTC"])["ADA-BTC"]
        assert (quote.bid, quote.last, quote.ask) == (
            Decimal("0.00005263"),
            Decimal("0.0000529"),
            Decimal("0.00005317"),
        )
        plain = sources.get("replay").tickers(["ADA-BTC"])["ADA-BTC"]
        assert plain.bid == plain.ask == plain.last


def test_the_finest_recording_that_is_running_gives_the_price(tmp_path: Path) -> None:
    at = int(START.timestamp())
    import_file(recording(tmp_path, "XRP-BTC_5m_a.csv", [(at, *["0.5"] * 4, 1), (at + 300, *["0.6"] * 4, 1)]))
    import_file(recording(tmp_path, "XRP-BTC_1m_b.csv", [(at, *["0.51"] * 4, 1)]))
    assert market.quotes("replay", ["XRP-BTC"], START + timedelta(seconds=60))["XRP-BTC"].last == Decimal("0.51")
    assert market.quotes("replay", ["XRP-BTC"], START + timedelta(seconds=310))["XRP-BTC"].last == Decimal("0.5")


def test_importing_again_replaces(ada: Product, tmp_path: Path) -> None:
    at = int(START.timestamp())
    again = import_file(recording(tmp_path, "ADA-BTC_5m_2018-01.csv.gz", [(at, *["6e-05"] * 4, 1)]))
    assert again.product == ada
    assert [row.close for row in Candle.objects.filter(product=ada)] == [6e-05]


@pytest.mark.parametrize(
    ("name", "header", "row"),
    [
        ("ADA-BTC.csv", "time,open,high,low,close,volume", (0, 1, 1, 1, 1, 1)),
        ("ADA-BTC_7m_x.csv", "time,open,high,low,close,volume", (0, 1, 1, 1, 1, 1)),
        ("ADA-BTC_5m_x.csv", "time,close", (0, 1)),
        ("ADA-BTC_5m_x.csv", "time,open,high,low,close,volume", (0, 1, 1)),
        ("ADA-BTC_5m_x.csv", "time,open,high,low,close,volume", (0, 1, 1, 1, 0, 1)),
        ("ADA-BTC_5m_x.csv", "time,open,high,low,close,volume", ("noon", 1, 1, 1, 1, 1)),
    ],
)
def test_bad_recordings_are_refused(tmp_path: Path, name: str, header: str, row: tuple[object, ...]) -> None:
    with pytest.raises(InvalidInput):
        import_file(recording(tmp_path, name, [row], header))
    assert not Candle.objects.exists()


def test_the_command_imports_files(tmp_path: Path) -> None:
    path = recording(tmp_path, "LTC-BTC_5m_x.csv", [(int(START.timestamp()), *["0.017"] * 4, 5)])
    out = StringIO()
    call_command("import_candles", str(path), stdout=out)
    assert "LTC-BTC 5m" in out.getvalue()
    with pytest.raises(CommandError):
        call_command("import_candles", str(tmp_path / "none_5m_x.csv"))


@pytest.mark.data
def test_a_month_of_five_minutes_loads_within_a_second(recordings: Path) -> None:
    ids = [
        import_file(recordings / f"{base}-BTC_5m_2018-01.csv.gz").product_id
        for base in ("ADA", "DASH", "ETC", "ETH", "LTC", "NXT", "TRX", "XLM")
    ]
    with clock.at(datetime(2018, 3, 1, tzinfo=UTC)):
        began = time.perf_counter()
        loaded = CandleStore().load(ids, Timeframe.M5, count=None)
        took = time.perf_counter() - began
    assert sum(map(len, loaded.values())) > 46_000
    assert took < 1.0


@pytest.mark.data
def test_gaps_of_a_recording_are_filled(recordings: Path) -> None:
    series = import_file(recordings / "GAPS-BTC_1m_2017-11.csv.gz")
    with clock.at(datetime(2018, 3, 1, tzinfo=UTC)):
        candles = CandleStore().load([series.product_id], Timeframe.M1, count=None)[series.product_id]
    assert len(candles) == (series.end - series.start) // 60
    assert int((~candles.synthetic).sum()) == 13_681
    assert not candles.volume[candles.synthetic].any()
