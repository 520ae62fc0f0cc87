"""A whole life of a live account: its secrets are in no log line, page, answer, event, audit entry or export."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest
import structlog
from django.conf import settings
from django.db import connection
from django.http import StreamingHttpResponse
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from accounts import balances
from accounts.access import acting_for
from accounts.models import Account, User
from positions import execution, manual, strangers
from positions.execution import Intent
from positions.models import Position
from positions.reconcile import reconcile_account
from positions.states import Direction, OrderType, Purpose
from tests.accounts.live import fake_venue
from tests.accounts.second_factor import second_factor
from tests.factories import BotFactory, ProductFactory, UserFactory
from tests.venue.keys import ApiKey
from tests.venue.server import FakeVenue
from tradebot.core import redaction
from tradebot.core.errors import TradebotError
from tradebot.core.logs import logging_config
from tradebot.core.scoping import acting_for_account, detached


@pytest.fixture
def venue() -> Iterator[FakeVenue]:
    with fake_venue() as started:
        yield started


@pytest.fixture(params=["console", "json"])
def logged(request: Any) -> Iterator[io.StringIO]:
    """Everything that the process logs, at every level, through our own formatter as in production."""
    before = structlog.get_config()
    wanted = logging_config(request.param, "DEBUG")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    made = dict(wanted["formatters"]["main"])
    handler.setFormatter(made.pop("()")(**made))
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    structlog.configure(**{**structlog.get_config(), "cache_logger_on_first_use": False})
    redaction.forget()
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)
    structlog.configure(**before)


class Watched:
    """Clients whose every answer is kept, with what it said."""

    def __init__(self, user: User) -> None:
        self.browser, self.api = Client(), APIClient()
        self.browser.force_login(user)
        self.api.force_login(user)
        self.seen: list[tuple[str, str]] = []

    def keep(self, path: str, answer: Any) -> Any:
        body = b"".join(answer.streaming_content) if isinstance(answer, StreamingHttpResponse) else answer.content
        self.seen.append((path, body.decode(errors="replace") + str(dict(answer.items()))))
        return answer

    def get(self, path: str) -> Any:
        return self.keep(path, self.browser.get(path))

    def post(self, path: str, data: dict[str, Any]) -> Any:
        return self.keep(path, self.browser.post(path, data))

    def send(self, method: str, path: str, data: dict[str, Any] | None = None) -> Any:
        return self.keep(path, getattr(self.api, method)(path, data, format="json"))


def forms_of(key: ApiKey) -> list[str]:
    """The parts of a key that must be nowhere, in the forms in which they could get out."""
    lines = [line for line in key.secret.splitlines() if not line.startswith("-----")]
    whole = ["\n".join(lines), "\\n".join(lines), *lines]
    names = [key.name, key.name.rsplit("/", 1)[-1]]
    forms = [form for part in (*whole, *names) for form in (part, quote(part, safe=""))]
    forms += [base64.b64encode(part.encode()).decode().rstrip("=") for part in (key.secret, key.name)]
    return [form for form in forms if len(form) >= 12]


def live(watched: Watched, venue: FakeVenue, user: User, key: ApiKey) -> Account:
    """Everything that can happen to an account, mistakes and troubles included."""
    code = second_factor(user)
    keys = {"exchange": "coinbase", "name": "Main", "api_key": key.name, "api_secret": key.secret}

    # Connecting: with a wrong code, a broken secret, a venue in trouble, and at last well
    watched.post(reverse("exchange_connect"), {**keys, "code": "123456"})
    watched.post(reverse("exchange_connect"), {**keys, "code": code(), "api_secret": key.secret[:-60]})
    venue.control.fail("status", "key_permissions", count=3, status=500)
    watched.post(reverse("exchange_connect"), keys)
    venue.control.fail("status", "accounts", count=1, status=401)
    watched.post(reverse("exchange_connect"), keys)
    venue.control.clear_faults()
    watched.send("post", "/api/accounts/connect/", {**keys, "code": "wrong", "name": ""})
    watched.send("post", "/api/accounts/connect/", {**keys, "code": code(), "surprise": key.secret})
    assert watched.post(reverse("exchange_connect"), keys).status_code == 302
    with detached("test looks"):
        account: Account = Account.objects.get(kind="exchange")

    # Arming, limits, keys again
    page = reverse("account", args=[account.pk])
    watched.post(f"{page}arm/", {"name": "Main", "code": code()})
    watched.post(f"{page}limits/", {"largest_order": "5000", "currency": "USD"})
    watched.post(f"{page}keys/check/", {})
    watched.post(
        f"{page}keys/", {"api_key": key.name, "api_secret": "-----BEGIN EC PRIVATE KEY-----\nx", "code": code()}
    )
    watched.send(
        "put", f"/api/accounts/{account.pk}/keys/", {"api_key": key.name, "api_secret": key.secret, "code": code()}
    )

    # Trading, with answers that fail
    with detached("test data"):
        product = ProductFactory(exchange="coinbase", symbol="BTC-USD")
    bot = BotFactory(account=account, status="running", products=[product])
    with acting_for_account(account.pk):
        balances.refresh(account)
        deal = _open(account, bot, product)
        venue.control.fail("status", "orders", count=2, status=500)
        assert manual.close_at_market(deal, user.email).state == manual.CloseState.WORKING
        venue.control.fail("cut", "orders", count=1, when="after")
        for _ in range(2):
            try:
                reconcile_account(account.pk)
            except TradebotError as error:
                logging.getLogger("somebody").warning("%s", error)
        venue.control.clear_faults()
        reconcile_account(account.pk)
        venue.control.revoke(key.name)
        for ask in (lambda: balances.refresh(account), lambda: strangers.report_strangers(account.pk)):
            with pytest.raises(TradebotError):
                ask()
    watched.post(f"{page}keys/check/", {})
    return account


def _open(account: Account, bot: Any, product: Any) -> Position:
    order = execution.submit(
        execution.intend_open(
            account=account,
            bot=bot,
            product=product,
            direction=Direction.LONG,
            frozen_settings={},
            settings_version=1,
            strategy="indicator_dca",
            budget_quote=Decimal(1000),
            max_active_deals=1,
            max_deals_per_pair=1,
            intent=Intent(
                purpose=Purpose.BASE_ORDER,
                sequence=1,
                order_type=OrderType.MARKET,
                quote_size=Decimal(100),
                reference_price=Decimal(60_000),
            ),
        )
    )
    found: Position = order.position
    return found


def look_everywhere(watched: Watched, account: Account) -> None:
    """Every page and answer that shows anything of the account, and the operator's pages about it."""
    pages = ["/", "/accounts/", f"/accounts/{account.pk}/", f"/accounts/{account.pk}/keys/", "/accounts/connect/"]
    pages += ["/deals/", "/history/", "/orders/", "/orders/export.csv", "/orders/export.json", "/history/export.csv"]
    pages += ["/outside-fills/", f"/accounts/{account.pk}/sell-everything/", "/settings/", "/settings/security/"]
    for path in pages:
        assert watched.get(path).status_code == 200, path
    for path in ("accounts", "orders", "fills", "positions", "events", "outside-fills", "panic-runs", "bots"):
        assert watched.send("get", f"/api/{path}/").status_code == 200, path
    for more in ("", "keys/", "limits/"):
        assert watched.send("get", f"/api/accounts/{account.pk}/{more}").status_code == 200, more
    operator = UserFactory(is_staff=True, is_superuser=True)
    staff = Watched(operator)
    for path in ("accounts/account/", f"accounts/account/{account.pk}/change/", "core/auditentry/", "positions/order/"):
        assert staff.get(f"/admin/{path}").status_code == 200, path
    watched.seen += staff.seen


def everything_stored() -> str:
    """All rows of all tables, as they are on the disk."""
    found = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            found.append(f"{table}: {cursor.fetchall()}")
    return "\n".join(found)


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
def test_no_secret_gets_out_in_a_whole_life_of_an_account(
    db: None, venue: FakeVenue, logged: io.StringIO, algorithm: str
) -> None:
    user = UserFactory(email="life@example.com", verified=True)
    watched = Watched(user)
    key = venue.add_account("life", {"USD": "10000", "BTC": "0.5"}, algorithm=algorithm)

    account = live(watched, venue, user, key)
    look_everywhere(watched, account)
    with acting_for(user):
        assert account.orders.exists()

    lines, stored = logged.getvalue(), everything_stored()
    assert "keys" in lines or "order" in lines  # something was logged at all
    assert len(watched.seen) > 40
    for form in forms_of(key):
        for path, answer in watched.seen:
            assert form not in answer, f"{path} shows {form[:8]}…"
        where = next((line for line in lines.splitlines() if form in line), None)
        assert where is None, f"logged: {form[:8]}…"
        assert form not in stored, f"stored in the clear: {form[:8]}…"
    assert settings.ENCRYPTION_KEYS[0] not in lines + json.dumps([answer for _, answer in watched.seen])
