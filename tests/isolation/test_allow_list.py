"""Ways round the guard: each use in the code is listed with its reason. A new one fails, and one that is gone."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = ("accounts", "bots", "marketdata", "notifications", "positions", "tradebot")

CALLS: Final = frozenset({"all_accounts", "detached", "raw", "extra", "cursor", "RawSQL"})
ATTRIBUTES: Final = frozenset({"_base_manager", "_raw_delete", "_insert", "_update"})

ALLOWED: Final[dict[tuple[str, str], tuple[int, str]]] = {
    ("accounts/access.py", "detached"): (2, "decides who may reach what, and who is told about an account"),
    ("accounts/management/commands/rotate_keys.py", "all_accounts"): (1, "the operator re-encrypts keys for everybody"),
    ("accounts/middleware.py", "Scope(reason)"): (1, "the admin site shows every row to staff"),
    ("accounts/services.py", "detached"): (1, "a member gives up their own share, which is a row of the account"),
    ("accounts/tokens.py", "detached"): (
        2,
        "an API token says who asks, so it is looked up and made before anybody's scope is bound",
    ),
    ("bots/autobuy/service.py", "all_accounts"): (
        3,
        "finds accounts with rules or purchases under way, each then handled alone; which prices are in use; retention",
    ),
    ("accounts/transfers.py", "all_accounts"): (1, "finds accounts to read transfers of; each is then read alone"),
    ("bots/api.py", "BotTemplate.presets"): (1, "presets belong to nobody and are shown to everybody"),
    ("bots/coins.py", "detached"): (
        1,
        "what a bot's owner thinks of coins decides what it opens, whoever acts; nothing but categories is returned",
    ),
    ("bots/engine.py", "all_accounts"): (
        2,
        "the dispatcher finds out whose bots are due, and which accounts wait for an exchange; each is leased alone",
    ),
    ("bots/backtesting/jobs.py", "all_accounts"): (
        1,
        "whose worker died, among everybody's backtests; each is then worked on for its owner",
    ),
    ("bots/panic/work.py", "all_accounts"): (
        2,
        "which panic sales are under way, and whose account one is about; the work runs in that account's scope",
    ),
    ("bots/memory.py", "cursor"): (
        1,
        "what pairs and deals remember, many rows in one statement, after their accounts were held against the scope",
    ),
    ("tradebot/core/postgres/rules.py", "cursor"): (3, "writes the database's own rules and reads its catalogue"),
    ("bots/market_needs.py", "all_accounts"): (1, "which symbols are in use: public data is fetched once for all"),
    ("bots/bot_detail.py", "detached"): (1, "who may see a bot may see who changed its settings"),
    ("bots/signals/hooks.py", "detached"): (
        1,
        "a hook's address and secret say whose bot it is, before anybody's scope is bound",
    ),
    ("bots/signals/inlet.py", "detached"): (1, "who knows a hook's secret acts in its account, whoever is signed in"),
    ("bots/signals/stored.py", "detached"): (
        1,
        "a backtest works without accounts; it reads what its bot was told in the scope of its person",
    ),
    ("bots/signals/stored.py", "all_accounts"): (1, "retention of signals"),
    ("bots/services.py", "detached"): (1, "the limit of bots concerns all of the owner's bots, unseen ones too"),
    ("bots/tasks.py", "all_accounts"): (
        3,
        "is there anything to do, which markets are in use, retention of old decisions",
    ),
    ("bots/templates.py", "all_accounts"): (1, "writes presets, which belong to nobody"),
    ("bots/templates.py", "BotTemplate.presets"): (4, "presets belong to nobody and are shown to everybody"),
    ("bots/backtesting/sweeps.py", "all_accounts"): (
        1,
        "finds sweeps whose workers died; each is then worked on for its owner",
    ),
    ("marketdata/downloads.py", "all_accounts"): (
        1,
        "finds downloads whose worker died; each is then carried out for its owner",
    ),
    ("positions/daymarks.py", "all_accounts"): (
        1,
        "which accounts limit a day's loss, and marks that nothing needs any more; each is marked in its own scope",
    ),
    ("positions/standstill.py", "all_accounts"): (
        1,
        "which stopped accounts have entries left; each is worked on in its own scope",
    ),
    ("notifications/outbox.py", "detached"): (1, "an event is written for everybody who may see the account"),
    ("notifications/tasks.py", "all_accounts"): (1, "retention of old events"),
    ("positions/deal_page.py", "detached"): (
        1,
        "whoever sees a deal sees what was done to it, which is written down with its owner",
    ),
    ("positions/guard/closing.py", "all_accounts"): (1, "finds accounts that were stopped; each is then handled alone"),
    ("positions/guard/equity.py", "all_accounts"): (1, "which prices guarded accounts need: fetched once for all"),
    ("positions/guard/service.py", "all_accounts"): (
        2,
        "finds accounts with a guard, each then measured alone; retention of old snapshots",
    ),
    ("positions/numbers.py", "detached"): (1, "a deal is numbered for the account's owner, whoever acts"),
    ("positions/sales/service.py", "all_accounts"): (
        1,
        "finds accounts with purchases or sales under way; each is then handled alone",
    ),
    ("positions/perps_loop.py", "all_accounts"): (1, "finds accounts with perpetual deals; each is then handled alone"),
    ("positions/reconcile.py", "all_accounts"): (
        2,
        "finds accounts with working orders, and with resting orders; each is then handled alone",
    ),
    ("positions/portfolio/snapshots.py", "all_accounts"): (
        1,
        "finds accounts without a value of today; each is then valued alone",
    ),
    ("positions/strangers.py", "all_accounts"): (1, "finds exchange accounts that have keys; each is handled alone"),
    ("positions/tasks.py", "all_accounts"): (1, "tells which accounts are on an exchange: those get a task each"),
    ("tradebot/core/audit.py", "detached"): (1, "an audit entry belongs to the owner of the thing, whoever acted"),
    ("tradebot/core/once.py", "all_accounts"): (1, "retention of what requests were answered"),
    ("tradebot/core/once.py", "detached"): (
        1,
        "what a request did is noted on the key of whoever sent it, whatever account it is done for",
    ),
    ("tradebot/core/turns.py", "all_accounts"): (
        1,
        "whose turn it is among everybody's jobs; each is then worked on for its owner",
    ),
    ("tradebot/core/scoping.py", "Scope(reason)"): (2, "what all_accounts() and detached() make"),
}
"""(file, way round) to how often, and why."""


def uses() -> Iterator[tuple[str, str]]:
    """Yield every way round the guard in the code, as (file, what)."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(path.read_text())):
                if what := _way_round(node):
                    yield name, what


def _way_round(node: ast.AST) -> str:
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in CALLS:
            return str(called)
        if called == "Scope" and any(keyword.arg == "reason" for keyword in node.keywords):
            return "Scope(reason)"
    if isinstance(node, ast.Attribute):
        if node.attr in ATTRIBUTES:
            return node.attr
        if node.attr == "presets" and ast.unparse(node.value) == "BotTemplate":
            return "BotTemplate.presets"
    return ""


def test_every_way_round_the_guard_is_listed_with_its_reason() -> None:
    assert dict(Counter(uses())) == {place: count for place, (count, _) in ALLOWED.items()}


def test_every_reason_is_given() -> None:
    assert all(reason for _, reason in ALLOWED.values())


def test_presets_belong_to_nobody() -> None:
    """The one manager without a guard has a filter of its own."""
    from bots.models import BotTemplate

    assert 'owner_id" IS NULL' in str(BotTemplate.presets.all().query)
