"""The world of the isolation proof: Ann with a row of everything, marked; Bob, a stranger; Olga, an observer.

Every text of Ann's rows carries a mark that occurs nowhere else, so one look at an answer's body tells whether anything
of hers got out. Rows of the account that she shares with Olga carry ``SHARED``, everything else of hers ``PRIVATE``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from http.cookies import SimpleCookie
from typing import Any, Final

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import connection, models
from django.db.models import Q
from django.utils import timezone
from factory.django import DjangoModelFactory
from rest_framework.test import APIClient

from accounts.models import Account, User
from marketdata.models import Product
from tests import factories
from tradebot.core import clock
from tradebot.core.crypto import Secret
from tradebot.core.scoping import OwnedModel, detached

SHARED: Final = "q7shared7q"
PRIVATE: Final = "q7private7q"
ADDRESS: Final = "q7address7q"  # in her e-mail address, which members of her account may know
SECRET: Final = "q7secret7q"  # never shown to anybody, its owner included
AMOUNT: Final = Decimal("7134271.828")
AMOUNTS: Final = ("7134271", "7,134,271", "7 134 271", "7\u202f134\u202f271", "7\u00a0134\u00a0271")

MEANT: Final = frozenset(
    {
        "base_currency",
        "budget_kind",
        "coin",
        "currency",
        "day_zone",
        "exchange",
        "fee_currency",
        "hold_currency",
        "lease_token",
        "objective",
        "quote_currency",
        "strategy",
        "symbol",
    }
)
"""Texts that the software reads as words of its own, so they cannot carry a mark."""
READING: Final = ("SELECT ", "SAVEPOINT ", "RELEASE SAVEPOINT ", "ROLLBACK TO SAVEPOINT ")
IDENTIFIER: Final = re.compile(r'"(\w+)"')
MARKED_JSON: Final = frozenset({"detail", "evidence", "last_evidence", "payload"})


def owned_models() -> list[type[OwnedModel]]:
    """Return every concrete owned model of the project."""
    return [model for model in apps.get_models() if issubclass(model, OwnedModel)]


def factory_of(model: type[models.Model]) -> Any:
    """Return the factory that makes rows of ``model``, or None."""
    return next(
        (
            made
            for made in vars(factories).values()
            if isinstance(made, type)
            and issubclass(made, DjangoModelFactory)
            and not made._meta.abstract
            and made._meta.model is model
        ),
        None,
    )


@dataclass
class World:
    """Who there is, and Ann's rows by name: ``shared`` ones that Olga may read, ``private`` ones that she may not."""

    ann: User
    bob: User
    olga: User
    product: Product
    shared: dict[str, Any] = field(default_factory=dict)
    private: dict[str, Any] = field(default_factory=dict)
    untouched: dict[str, str] = field(default_factory=dict)
    """The fingerprint of the world as it was made, which every test of a file starts from."""
    cookies: dict[int, SimpleCookie] = field(default_factory=dict)
    """With a session of each person, by the person's id."""
    written: set[str] = field(default_factory=set)
    """Whatever the statements that were not plain reading named, since :meth:`watching` began."""

    def sign_in(self) -> None:
        """Give each of the three a session, which every client of theirs begins with."""
        for person in (self.ann, self.bob, self.olga):
            client = APIClient()
            client.force_login(person)
            self.cookies[person.pk] = client.cookies

    def client_of(self, person: User | None) -> APIClient:
        """Return a browser-like client of the person, or of somebody signed out."""
        client = APIClient()
        if person is not None:
            client.cookies.load({name: cookie.value for name, cookie in self.cookies[person.pk].items()})
        return client

    def named(self, kind: str, observer: bool) -> Any:
        """Return Ann's row of that kind; with ``observer`` the one that Olga may read, where there is one."""
        return self.shared[kind] if observer and kind in self.shared else self.private[kind]

    def fingerprint(self) -> dict[str, str]:
        """Return a hash per table of all that is Ann's."""
        with detached("the proof looks at what changed"):
            return {model._meta.label: _hash(self.anns(model)) for model in self._models()}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note every statement that may write, so that :meth:`changed` need not look at tables that none named."""

        def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            if not sql.startswith(READING):
                self.written.update(IDENTIFIER.findall(sql))
            return execute(sql, params, many, context)

        self.written.clear()
        with connection.execute_wrapper(note):
            yield

    def changed(self) -> set[str]:
        """Return the tables in which something of Ann's is not as it was made. Asked while ``watching``."""
        with detached("the proof looks at what changed"):
            written = [model for model in self._models() if model._meta.db_table in self.written]
            return {
                model._meta.label for model in written if _hash(self.anns(model)) != self.untouched[model._meta.label]
            }

    @staticmethod
    def _models() -> list[type[models.Model]]:
        return [*owned_models(), EmailAddress, Authenticator, UserSession, get_user_model()]

    def anns(self, model: Any) -> Any:
        """Return all rows of the model that are Ann's."""
        if model is get_user_model():
            return model.objects.filter(pk=self.ann.pk)
        if not issubclass(model, OwnedModel):
            return model._default_manager.filter(user=self.ann)
        ids = [row.pk for row in (self.shared["account"], self.private["account"])]
        mine = Q(pk__in=[])
        if model.account_path:
            mine |= Q(**{f"{model.account_path}__in": ids})
        if model.owner_path:
            mine |= Q(**{model.owner_path: self.ann.pk})
        return model.objects.filter(mine)


def build() -> World:
    """Make the world."""
    ann, bob, olga = (
        factories.UserFactory(email=f"{name}@example.com", verified=True) for name in (f"ann-{ADDRESS}", "bob", "olga")
    )
    product = factories.ProductFactory()
    world = World(ann, bob, olga, product)
    world.shared = _rows_of_account(ann, product)
    world.private = {**_rows_of_account(ann, product), **_rows_of_person(ann)}
    factories.MembershipFactory(account=world.shared["account"], user=olga, role="observer")
    for person in (bob, olga):
        _rows_of_account(person, product)
    with detached("the proof marks the rows"):
        for mark, rows in ((SHARED, world.shared), (PRIVATE, world.private)):
            for row in rows.values():
                _mark(row, mark)
        ids = [world.shared["account"].pk, world.private["account"].pk]
        for model in owned_models():  # rows that came along, such as pairs
            if model.account_path and model.account_path != "id":
                for row in model.objects.filter(**{f"{model.account_path}__in": ids}):
                    shared = row._value_at(model.account_path) == world.shared["account"].pk
                    _mark(row, SHARED if shared else PRIVATE)
    return world


def _rows_of_account(owner: User, product: Product) -> dict[str, Any]:
    mine = owner.email.startswith("ann")
    balance = AMOUNT if mine else Decimal(50)
    account: Account = factories.AccountFactory(owner=owner, balances={"USD": balance, "BTC": 1})
    perpetual = factories.ProductFactory(symbol="BTC-USD-PERP", kind="perpetual")
    bot = factories.BotFactory(account=account, products=[product])
    deal = factories.PositionFactory(bot=bot, product=product, open=True, budget_quote=balance)
    order = factories.OrderFactory(position=deal, status="filled", finished_at=clock.now())
    closed = factories.PositionFactory(
        bot=bot, product=product, closed=True, realised_quote=balance, quote_spent=balance, base_bought=1, base_sold=1
    )
    paper_order = factories.PaperOrderFactory(account=account)
    trade = factories.PaperTradeFactory(order=paper_order)
    return {
        "account": account,
        "terms": factories.PaperTermsFactory(account=account),
        "credential": factories.ExchangeCredentialFactory(
            account=account, api_key=Secret(f"{SECRET}key"), api_secret=Secret(f"{SECRET}secret")
        ),
        "funds": factories.VenueFundsFactory(account=account, maker_fee=balance),
        "venue_balance": factories.VenueBalanceFactory(account=account, total=balance),
        "guard": factories.PropGuardRulesFactory(account=account, initial_deposit=balance),
        "guard_state": factories.PropGuardStateFactory(account=account, last_equity=balance),
        "guard_event": factories.PropGuardEventFactory(account=account),
        "equity": factories.EquitySnapshotFactory(account=account, equity=balance),
        "auto_buy": (rule := factories.AutoBuyRuleFactory(account=account, minimum=balance)),
        "auto_buy_decision": factories.AutoBuyDecisionFactory(rule=rule),
        "snapshot": factories.ValueSnapshotFactory(account=account, value_usd=balance),
        "transfer": factories.TransferFactory(account=account, amount=balance, source="manual"),
        "left_out": factories.LeftOutFactory(account=account),
        "membership": factories.MembershipFactory(account=account),
        "bot": bot,
        "decision": factories.DecisionFactory(bot=bot, position=deal, product=product),
        "replay": factories.ReplayRunFactory(account=account, bot=bot),
        "hook": factories.SignalHookFactory(bot=bot),
        "signal": factories.SignalFactory(bot=bot, product=product),
        "position": deal,
        "order": order,
        "fill": factories.FillFactory(order=order, price=Decimal(100), base=Decimal("0.5")),
        "closed": closed,
        "limits": factories.TradingLimitsFactory(account=account, largest_order=balance),
        "day": factories.DayMarkFactory(account=account),
        "panic": (panic := factories.PanicRunFactory(account=account, finished=True)),
        "panic_step": factories.PanicStepFactory(run=panic, position=deal),
        "unmatched": factories.UnmatchedFillFactory(account=account),
        "perps_settings": factories.PerpsSettingsFactory(account=account),
        "paper_perp": factories.PaperPerpFactory(account=account, margin=balance),
        "perp": (
            terms := factories.PerpsTermsFactory(
                position=factories.PositionFactory(
                    bot=None, account=account, product=perpetual, strategy="perpetual", open=True
                ),
                product=perpetual,
                margin=balance,
            )
        ).position,
        "perps_terms": terms,
        "bracket": factories.BracketFactory(position=terms.position, stop_loss=balance),
        "funding": factories.FundingPaymentFactory(position=terms.position, amount=balance),
        "paper_order": paper_order,
        "trade": trade,
        "entry": factories.PaperEntryFactory(account=account, kind="trade", trade=trade),
    }


def _rows_of_person(owner: User) -> dict[str, Any]:
    now = timezone.now()
    with detached("test data"):
        second_factor = Authenticator.objects.create(user=owner, type="totp", data={"secret": SECRET})
        session = UserSession.objects.create(
            user=owner, session_key=SECRET, ip="127.0.0.1", user_agent=PRIVATE, created_at=now, last_seen_at=now
        )
    return {
        "orphan": factories.BotFactory(owner=owner, account=None),
        "template": factories.BotTemplateFactory(owner=owner),
        "coin_review": factories.CoinReviewFactory(owner=owner),
        "event": factories.EventFactory(user=owner, payload={}),
        "counter": factories.UserCounterFactory(user=owner),
        "audit": factories.AuditEntryFactory(user=owner),
        "action_key": factories.ActionKeyFactory(user=owner),
        "authenticator": second_factor,
        "session": session,
        "token": factories.ApiTokenFactory(user=owner),
        "backtest": (backtest := factories.BacktestFactory(owner=owner, status="finished")),
        "simulated_deal": factories.BacktestDealFactory(backtest=backtest, profit=AMOUNT),
        "sweep": (sweep := factories.SweepFactory(owner=owner, status="finished")),
        "point": factories.SweepPointFactory(sweep=sweep, score=1.0),
        "download": factories.HistoryDownloadFactory(owner=owner, status="finished"),
        "user": owner,
    }


def _mark(row: Any, mark: str) -> None:
    """Write the mark into every text of an owned row that is free for people's words, unique where it has to be."""
    if not isinstance(row, OwnedModel):
        return
    changes: dict[str, Any] = {}
    for column in row._meta.concrete_fields:
        if column.name in MARKED_JSON:
            changes[column.name] = {"mark": mark}
        elif type(column) in (models.CharField, models.TextField) and not column.choices and column.name not in MEANT:
            text = f"{mark}{row.pk}{column.name}"
            changes[column.name] = text[: column.max_length] if column.max_length else text
    if changes:
        type(row).objects.filter(pk=row.pk).update(**changes)
        for name, value in changes.items():
            setattr(row, name, value)


def _hash(rows: Any) -> str:
    values = sorted(json.dumps(row, default=str, sort_keys=True) for row in rows.values())
    return hashlib.sha256("\n".join(values).encode()).hexdigest()
