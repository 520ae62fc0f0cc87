"""What the commands ``backtest`` and ``sweep`` share: whose run it is, what is tried, and how far it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core.management.base import CommandError, CommandParser

from accounts.models import User
from bots.models import Bot
from bots.strategies import STRATEGIES, get_strategy
from marketdata import sources
from marketdata.sources.replay import import_file
from tradebot.core.decimals import dec
from tradebot.core.errors import TradebotError

__all__ = ["add_arguments", "arguments_of", "bar", "person", "settings_from", "words"]

BAR = 40
DEMO_USER = "demo@tradebot.local"
LOCAL_USER = "replay@localhost"
"""Whose runs are made from the command line where there is no demo: the same as of ``manage.py replay``."""
CANCELLED_CODE = 130


def add_arguments(parser: CommandParser) -> None:
    """Add what says which settings are tried on which candles, with which money."""
    parser.add_argument("--user", default="", help=f"e-mail of the person whose run it is (default: {DEMO_USER})")
    parser.add_argument(
        "--bot",
        default="preset:balanced",
        help="id of a bot (its settings, pairs, market and budget), preset:NAME, or a JSON file with settings",
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="override a setting")
    parser.add_argument("--pairs", default="", help="pairs with commas between, such as BTC-USD,ETH-USD")
    parser.add_argument("--exchange", default="", help="market of the pairs: coinbase, simulated or replay")
    parser.add_argument("--files", nargs="+", type=Path, default=[], help="candle files, in place of a market")
    parser.add_argument("--timeframe", default="", help="one look per candle of this timeframe")
    parser.add_argument("--from", dest="start", default="", help="first day or moment, UTC (default: all that is held)")
    parser.add_argument("--to", dest="end", default="", help="end of the range, UTC, not included")
    parser.add_argument("--capital", default="", help="opening amount of the quote currency (default: 1000)")
    parser.add_argument(
        "--balance", action="append", default=[], metavar="CUR=AMOUNT", help="opening amounts, in place of --capital"
    )
    parser.add_argument("--budget-pct", default="", help="percent of the value that the bot may use (default: 100)")
    parser.add_argument("--fees", default="", help="taker fee in percent, or maker,taker (default: 0.4,0.6)")
    parser.add_argument("--slippage", default="", help="slippage of market orders in percent (default: 0.05)")
    parser.add_argument("--name", default="", help="what to call it")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def person(email: str) -> User:
    """Return the person with that address. Raises CommandError when there is none.

    By default the demo person; where there is no demo, a local person that is made when missing.
    """
    wanted = (email or DEMO_USER).lower()
    user: User | None = User.objects.filter(email=wanted).first()
    if user is None and email:
        raise CommandError(f"user: there is nobody with the e-mail address {wanted}")
    return user or User.objects.filter(email=LOCAL_USER).first() or User.objects.create_user(LOCAL_USER)


def arguments_of(options: dict[str, Any]) -> dict[str, Any]:
    """Return arguments of ``start_backtest``. Runs in the person's scope. Raises CommandError, TradebotError."""
    exchange, symbols = options["exchange"], [part for part in options["pairs"].split(",") if part.strip()]
    if options["files"]:
        rows = [import_file(_existing(path, "files")) for path in sorted(options["files"])]
        exchange, symbols = sources.REPLAY, symbols or list(dict.fromkeys(row.product.symbol for row in rows))
    if options["bot"].isdecimal():
        found = _of_bot(options)
    else:
        strategy, settings, label = settings_from(options["bot"])
        exchange = exchange or django_settings.MARKET.replace("auto", sources.SIMULATED)
        found = {"strategy": strategy, "settings": _overridden(settings, options["set"]), "budget_pct": 100}
        found["name"] = f"{label}: {', '.join(symbols[:3])}"[:120]
    found |= {"exchange": exchange, "symbols": symbols}
    given = {
        "name": options["name"],
        "timeframe": options["timeframe"],
        "start": _moment(options["start"], "from"),
        "end": _moment(options["end"], "to"),
        "capital": options["capital"],
        "balances": _balances(options["balance"]),
        "budget_pct": options["budget_pct"],
        "slippage_pct": options["slippage"],
    }
    if options["budget_pct"]:
        given["budget_kind"] = "percent"
    if options["fees"]:
        maker, _, taker = options["fees"].partition(",")
        given |= {"maker_fee_pct": maker, "taker_fee_pct": taker or maker}
    return found | {name: value for name, value in given.items() if value}


def _of_bot(options: dict[str, Any]) -> dict[str, Any]:
    bot = Bot.objects.filter(pk=int(options["bot"])).first()
    if bot is None:
        raise CommandError(f"bot: {options['user'] or 'that person'} has no bot with the id {options['bot']}")
    changed = {"settings": _overridden(dict(bot.settings), options["set"])} if options["set"] else {}
    return {"bot": bot, **changed}


def settings_from(text: str) -> tuple[str, dict[str, Any], str]:
    """Return (strategy, settings, label) of ``preset:NAME`` or of a JSON file. Raises CommandError."""
    kind, _, name = text.partition(":")
    if kind == "preset" and name:
        presets = {preset.name: (strategy, preset) for strategy in STRATEGIES.values() for preset in strategy.presets}
        if name not in presets:
            raise CommandError(f"bot: there is no preset {name!r}; there are {', '.join(presets)}")
        strategy, preset = presets[name]
        return strategy.name, preset.settings.to_json(), preset.label  # type: ignore[attr-defined]
    path = _existing(Path(text), "bot")
    try:
        document = json.loads(path.read_text(), parse_float=str)
    except ValueError as error:
        raise CommandError(f"bot: {path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise CommandError(f"bot: {path} holds no settings")
    name = str(document.get("strategy", "indicator_dca"))
    return get_strategy(name).name, dict(document.get("settings", document)), path.stem


def bar(done: int, total: int) -> None:
    """Draw how far it is on standard error, where somebody looks at it."""
    if not sys.stderr.isatty():
        return
    filled = BAR * done // max(total, 1)
    end = "\n" if done >= total else ""
    sys.stderr.write(f"\r[{'#' * filled}{'.' * (BAR - filled)}] {done:,}/{total:,}{end}")
    sys.stderr.flush()


def words(work: Callable[[], None], command: str) -> None:
    """Do the command's work; expected failures become CommandErrors that name the argument at fault."""
    try:
        work()
    except TradebotError as error:
        raise CommandError(f"{error.field or command}: {error.message}") from error


def _overridden(settings: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals:
            raise CommandError(f"set: {override!r} is not NAME=VALUE")
        try:
            settings[name] = json.loads(value, parse_float=str)
        except ValueError:
            settings[name] = value
    return settings


def _existing(path: Path, argument: str) -> Path:
    if not path.is_file():
        raise CommandError(f"{argument}: there is no file {path}")
    return path


def _moment(text: str, argument: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"{argument}: {text!r} is no date, such as 2024-01-31") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _balances(given: list[str]) -> dict[str, Any]:
    found = {}
    for item in given:
        currency, _, amount = item.partition("=")
        try:
            found[currency.upper()] = dec(amount)
        except ValueError as error:
            raise CommandError(f"balance: {item!r} is not CUR=AMOUNT") from error
    return found
