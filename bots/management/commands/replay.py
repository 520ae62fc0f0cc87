"""``manage.py replay``: run a bot over recorded candles through the real cycle, as fast as the machine allows.

    manage.py replay candles/*-BTC_5m_2018-01.csv.gz --bot preset:balanced

A run that was interrupted, even by ``kill -9``, goes on where it was when the same command is given again; one that was
finished starts anew on a paper account of its own and ends with identical fills.
"""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.access import acting_for
from accounts.models import User
from bots import replay
from bots.charts import equity_svg
from bots.strategies import STRATEGIES, get_strategy
from tradebot.core.decimals import dec, plain
from tradebot.core.errors import TradebotError

REPLAY_USER = "replay@localhost"
BAR = 40


class Command(BaseCommand):
    help = "Replay recorded candles (PRODUCT_TIMEFRAME_PERIOD.csv.gz) through a bot and print what came of it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", type=Path, help="candle files")
        parser.add_argument("--bot", default="preset:balanced", help="preset:NAME, or a JSON file with the settings")
        parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="override a setting")
        parser.add_argument("--budget-pct", default="100", help="percent of the account's value that the bot may use")
        parser.add_argument(
            "--start", action="append", default=[], metavar="CUR=AMOUNT", help="opening balance (BTC=1)"
        )
        parser.add_argument("--user", default="", help="e-mail of the person whose run it is (made when missing)")
        parser.add_argument("--fresh", action="store_true", help="start over even if an unfinished run could go on")
        parser.add_argument("--svg", type=Path, help="write a picture of the equity curve here")
        parser.add_argument("--json", action="store_true", help="print the figures as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._replay(options)
        except TradebotError as error:
            raise CommandError(f"{error.field or 'replay'}: {error.message}") from error

    def _replay(self, options: dict[str, Any]) -> None:
        strategy, settings, label = _settings(options["bot"], options["set"])
        spec = replay.ReplaySpec(
            files=tuple(_existing(path) for path in sorted(options["files"])),
            strategy=strategy,
            settings=settings,
            budget_pct=_number(options["budget_pct"], "budget-pct"),
            start=_balances(options["start"]),
            label=f"Replay {label}"[:50],
        )
        user = _user(options["user"])
        with acting_for(user):
            run, resumed = replay.open_run(user, spec, fresh=options["fresh"])
        with acting_for(user):  # again, because the scope now holds the run's account
            if resumed and not options["json"]:
                self.stderr.write(f"Going on with run {run.pk} at step {(run.cursor - run.start) // run.step_seconds}.")
            replay.run_to_end(run, None if options["json"] else _progress)
            result = replay.report(run)
            if options["json"]:
                self.stdout.write(json.dumps(result.to_json()))
            else:
                self._print(result, run.account.name, user.email)
            if options["svg"]:
                options["svg"].write_text(equity_svg(*replay.equity_curve(run), unit=result.quote))

    def _print(self, r: replay.Report, account: str, email: str) -> None:
        rate = "-" if r.win_rate_pct is None else f"{r.win_rate_pct} %"
        rows = [
            ("Account", f"{account} of {email}"),
            ("Deals closed", f"{r.deals_closed} ({r.won} won, {rate}), {r.deals_open} still open"),
            ("Realised", f"{_short(r.realised)} {r.quote}, net of fees"),
            ("Unrealised", f"{_short(r.unrealised)} {r.quote}, net of fees"),
            ("Fees", f"{_short(r.fees)} {r.quote}"),
            ("Equity", f"{r.equity_start} to {r.equity_end} {r.quote}"),
            ("Max drawdown", f"{r.max_drawdown_pct} %"),
            ("Fills", f"{r.fills}, fingerprint {r.fingerprint}"),
            ("Wall time", f"{r.wall_seconds} s, {r.candles} candles, {r.candles_per_second} candles/s"),
        ]
        for name, value in rows:
            self.stdout.write(f"{name:<14}{value}")


def _settings(bot: str, overrides: list[str]) -> tuple[str, dict[str, Any], str]:
    """Return (strategy, settings, label) of ``--bot`` with ``--set`` applied."""
    kind, _, name = bot.partition(":")
    if kind == "preset" and name:
        presets = {preset.name: (strategy, preset) for strategy in STRATEGIES.values() for preset in strategy.presets}
        if name not in presets:
            raise CommandError(f"bot: there is no preset {name!r}; there are {', '.join(presets)}")
        strategy, preset = presets[name]
        settings, label = preset.settings.to_json(), preset.name  # type: ignore[attr-defined]
    else:
        path = _existing(Path(bot))
        try:
            document = json.loads(path.read_text())
        except ValueError as error:
            raise CommandError(f"bot: {path} is not JSON: {error}") from error
        strategy, settings = get_strategy(document.get("strategy", "indicator_dca")), document.get("settings", document)
        label = path.stem
    for override in overrides:
        field, equals, value = override.partition("=")
        if not equals:
            raise CommandError(f"set: {override!r} is not NAME=VALUE")
        try:
            settings[field] = json.loads(value, parse_float=str)
        except ValueError:
            settings[field] = value
    return strategy.name, strategy.settings_from_json(settings).to_json(), label


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise CommandError(f"files: there is no file {path}")
    return path


def _number(text: str, name: str) -> Decimal:
    try:
        number = dec(text)
    except ValueError as error:
        raise CommandError(f"{name}: {error}") from error
    if not 0 <= number <= 100:
        raise CommandError(f"{name}: {plain(number)} is not between 0 and 100")
    return number


def _balances(given: list[str]) -> dict[str, Decimal]:
    balances = {}
    for item in given or ["BTC=1"]:
        currency, _, amount = item.partition("=")
        try:
            balances[currency.upper()] = dec(amount)
        except ValueError as error:
            raise CommandError(f"start: {item!r} is not CUR=AMOUNT") from error
    return balances


def _user(email: str) -> User:
    if email:
        user = User.objects.filter(email=email.lower()).first()
        if user is None:
            raise CommandError(f"user: there is nobody with the e-mail address {email}")
        return user
    user = User.objects.filter(email=REPLAY_USER).first()
    return user or User.objects.create_user(REPLAY_USER)


def _progress(done: int, total: int) -> None:
    if done % max(total // 200, 1) and done != total:
        return
    filled = BAR * done // total
    sys.stderr.write(f"\r[{'#' * filled}{'.' * (BAR - filled)}] {done}/{total} steps" + ("\n" if done == total else ""))
    sys.stderr.flush()


def _short(amount: str) -> str:
    return f"{Decimal(amount):.8f}"
