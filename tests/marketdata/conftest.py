"""Fixtures of the market data tests: a fixed moment, a venue on a local port, retries without waiting."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import stamina
from pytest_httpserver import HTTPServer

from marketdata.sources.coinbase import CoinbaseSource
from tests.marketdata.venue import Venue, venue_on
from tradebot.core import clock

RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "data" / "candles"


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3):
        yield


@pytest.fixture
def moment() -> Iterator[datetime]:
    """The clock stands at noon and a bit."""
    at = datetime(2024, 4, 24, 12, 0, 40, tzinfo=UTC)
    with clock.at(at):
        yield at


@pytest.fixture
def venue(httpserver: HTTPServer, settings) -> Iterator[Venue]:
    with venue_on(httpserver) as serving:
        settings.COINBASE_URL = serving.url
        yield serving


@pytest.fixture
def coinbase(venue: Venue) -> CoinbaseSource:
    return CoinbaseSource(venue.url, connect_timeout=1, read_timeout=0.4, attempts=3, per_second=1000)


@pytest.fixture
def recordings() -> Path:
    """The folder of recorded candles; without it the test is skipped."""
    if not RECORDINGS.is_dir():
        pytest.skip("no recorded candles beside this checkout")
    return RECORDINGS


@pytest.fixture
def unused_tcp_port() -> int:
    """A port of this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
