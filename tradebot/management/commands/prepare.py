"""``manage.py prepare``: bring an installation up to this version of the code, before its processes work.

First what the pages need: migrations, static files, presets, the demo person. Then one line of JSON about it on
standard output, whereupon the pages may be served. Then what the worker needs: the product list of the market that new
accounts get, so that a first bot can be made, the demo bots, and reconciliation of every order that was under way when
the last process ended (F18, F70). Running it again is harmless.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.core.management.base import BaseCommand

from bots.templates import seed_presets
from marketdata import sources
from marketdata.services import refresh_products
from positions.reconcile import reconcile_all
from tradebot.core.errors import TradebotError
from tradebot.runtime import demo

log = structlog.get_logger(__name__)
MARKETS = {
    sources.COINBASE: "Coinbase: real prices, nothing is traded there by paper accounts",
    sources.SIMULATED: "Simulated: prices are made up by Tradebot and follow no real market",
}


class Command(BaseCommand):
    help = "Migrate, collect static files, seed presets, products and the demo person, reconcile orders."
    requires_system_checks = []  # `make check` runs them; here they would only delay each start

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        collect_static_files()
        seed_presets()
        person = demo.ensure_person(settings.DATA_DIR / "demo-password.txt") if settings.DEMO else None
        self.stdout.write(json.dumps(_report(person)))
        self.stdout.flush()
        refresh_product_list()
        if person is not None:
            _make_demo_bots(person)
        result = reconcile_all()
        if result.accounts:
            log.info("reconciled before the first cycle", result=str(result))


def refresh_product_list() -> None:
    """Ask the market that new accounts get for its products. The worker asks again when it starts, and hourly."""
    market = sources.default_market()
    try:
        refresh_products(market)
    except TradebotError as error:
        log.warning("products.not_refreshed", market=market, reason=error.message)


def _make_demo_bots(person: demo.Demo) -> None:
    try:
        demo.ensure_bots(person)
    except Exception:  # what only shows something may not keep the platform from starting
        log.exception("demo bots were not made")


def _report(person: demo.Demo | None) -> dict[str, Any]:
    market = person.account.exchange if person is not None else settings.MARKET
    shown = None
    if person is not None:
        shown = {"email": demo.EMAIL, "password": person.password or "the one you have chosen"}
    return {"demo": shown, "market": MARKETS.get(market, f"{market}: new paper accounts get what answers")}


def collect_static_files() -> bool:
    """Collect static files unless the ones there were collected from the same. Returns whether it did."""
    wanted, stamp = _static_fingerprint(), Path(settings.STATIC_ROOT) / ".collected-from"
    if stamp.is_file() and stamp.read_text() == wanted:
        return False
    stamp.unlink(missing_ok=True)
    call_command("collectstatic", interactive=False, clear=stamp.parent.is_dir(), verbosity=0)
    stamp.write_text(wanted)
    return True


def _static_fingerprint() -> str:
    digest = hashlib.sha256(settings.STORAGES["staticfiles"]["BACKEND"].encode())
    for finder in get_finders():
        for name, storage in finder.list([]):
            found = Path(storage.path(name)).stat()
            digest.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()
