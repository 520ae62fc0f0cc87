"""Many writers at once: no lost update, no error about locks, no order twice (F60)."""

from __future__ import annotations

import multiprocessing
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from django.db import connections

from accounts.exchanges.paper import PaperVenue, match_resting
from accounts.models import Account, PaperOrder, PaperTrade
from accounts.services import deposit, withdraw
from tests.accounts.helpers import LIVE, D, assert_books_agree, buy, live_account, live_product, price, ref, sell, total
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, VenueRejected
from tradebot.core.scoping import acting_for_account, acting_for_accounts

pytestmark = [pytest.mark.usefixtures("shared_database"), pytest.mark.slow]

WRITERS = 4
ROUNDS = 12


def in_threads(work: Callable[[int], None]) -> list[str]:
    """Run ``work(number)`` in threads that start together; return what went wrong."""
    start, errors = threading.Barrier(WRITERS), []

    def run(number: int) -> None:
        try:
            start.wait()
            work(number)
        except Exception as error:  # noqa: BLE001 (every one is reported)
            errors.append(f"{type(error).__name__}: {error}")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return errors


def in_processes(work: Callable[[int], None]) -> list[str]:
    """The same in forked processes, which take the test's prices and scopes along and open connections of their own."""
    connections.close_all()
    context = multiprocessing.get_context("fork")
    start, errors = context.Barrier(WRITERS), context.SimpleQueue()

    def run(number: int) -> None:
        try:
            start.wait()
            work(number)
        except Exception as error:  # noqa: BLE001 (every one is reported)
            errors.put(f"{type(error).__name__}: {error}")
        finally:
            connections.close_all()

    processes = [context.Process(target=run, args=(number,)) for number in range(WRITERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    found = [f"exit code {process.exitcode}" for process in processes if process.exitcode]
    while not errors.empty():
        found.append(errors.get())
    return found


@pytest.fixture(params=[in_threads, in_processes])
def at_once(request: pytest.FixtureRequest) -> Callable[[Callable[[int], None]], list[str]]:
    return request.param


@pytest.fixture
def account() -> Account:
    live_product()
    price(49_990, 50_000)
    return live_account(USD=1_000_000, BTC=10)


def test_f60_simultaneous_orders_and_deposits_lose_nothing(account: Account, at_once: Any) -> None:
    def work(number: int) -> None:
        with acting_for_account(account.pk):
            venue = PaperVenue(account)
            for _ in range(ROUNDS):
                if number % 2:
                    deposit(account, "USD", D(100), "person@example.com")
                    venue.place(sell(base="0.001"))
                else:
                    resting = buy(base="0.001", limit=40_000)
                    venue.place(buy(base="0.001"))
                    venue.place(resting)
                    venue.cancel(ref(resting.client_order_id))

    assert at_once(work) == []
    trades = WRITERS // 2 * ROUNDS
    assert total(account, "BTC") == D(10)
    assert total(account, "USD") == D(1_000_000) + trades * (D(100) - D("50.3") + D("49.99") - D("0.29994"))
    assert_books_agree(account)


def test_f59_simultaneous_placing_of_one_client_id_makes_one_order(account: Account, at_once: Any) -> None:
    ids = [uuid.uuid4() for _ in range(ROUNDS)]

    def work(number: int) -> None:
        with acting_for_account(account.pk):
            for client_id in ids:
                assert PaperVenue(account).place(buy(quote=100, id=client_id)).client_order_id == client_id

    assert at_once(work) == []
    with acting_for_account(account.pk):
        assert PaperOrder.objects.count() == PaperTrade.objects.count() == ROUNDS
    assert_books_agree(account)


def test_an_id_that_is_given_up_while_it_arrives_is_one_of_the_two_for_everybody(
    account: Account, at_once: Any
) -> None:
    orders = [buy(quote=100) for _ in range(ROUNDS)]

    def work(number: int) -> None:
        with acting_for_account(account.pk):
            venue = PaperVenue(account)
            for order in orders:
                if number % 2:
                    said = venue.forget(order)
                    assert venue.forget(order) == said == venue.find(ref(order.client_order_id))
                else:
                    with suppress(VenueRejected):
                        venue.place(order)

    assert at_once(work) == []
    with acting_for_account(account.pk):
        assert PaperOrder.objects.count() == ROUNDS
        assert PaperTrade.objects.count() == PaperOrder.objects.filter(status="filled").count()
    assert_books_agree(account)


def test_f10_what_is_free_is_spent_once(at_once: Any) -> None:
    live_product()
    price(49_990, 50_000)
    account = live_account(USD=503)

    def work(number: int) -> None:
        with acting_for_account(account.pk):
            for act in (
                lambda: PaperVenue(account).place(buy(quote=500)),
                lambda: withdraw(account, "USD", D(503), "person@example.com"),
            ):
                with suppress(VenueRejected, InvalidInput):
                    act()

    assert at_once(work) == []
    assert total(account, "USD") == D(0)
    assert_books_agree(account)


def test_matching_and_cancelling_at_once_fill_or_cancel_each_order_once(account: Account, at_once: Any) -> None:
    others = [live_account(USD=10_000) for _ in range(3)]
    ids = {}
    for one in (account, *others):
        orders = [buy(base="0.01", limit=49_000 + n) for n in range(ROUNDS)]
        with acting_for_account(one.pk):
            for order in orders:
                PaperVenue(one).place(order)
        ids[one.pk] = [order.client_order_id for order in orders]
    price(48_000, 48_001)

    def work(number: int) -> None:
        with acting_for_accounts(ids):
            for turn in range(ROUNDS):
                if number % 2:
                    match_resting(LIVE, clock.now())
                else:
                    for one in (account, *others):
                        PaperVenue(one).cancel(ref(ids[one.pk][turn]))

    assert at_once(work) == []
    with acting_for_accounts(ids):
        assert set(PaperOrder.objects.values_list("status", flat=True)) <= {"filled", "cancelled"}
        assert PaperTrade.objects.count() == PaperOrder.objects.filter(status="filled").count()
    for one in (account, *others):
        assert_books_agree(one)
