"""A venue of its own for each test: starting one takes a millisecond."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.venue.client import Client
from tests.venue.server import FakeVenue

WALLETS = {"USD": "10000", "USDC": "500", "BTC": "1"}


@pytest.fixture
def venue() -> Iterator[FakeVenue]:
    """A venue at which BTC stands at 60,000: 60,000 bid, 60,000.01 asked."""
    with FakeVenue() as started:
        yield started


@pytest.fixture
def anna(venue: FakeVenue) -> Client:
    """Anna, with 10,000 USD, 500 USDC and 1 BTC; maker 0.4 %, taker 0.6 %."""
    return Client(venue, venue.add_account("anna", WALLETS))


@pytest.fixture
def ben(venue: FakeVenue) -> Client:
    """Ben, with the same."""
    return Client(venue, venue.add_account("ben", WALLETS))
