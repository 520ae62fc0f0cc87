"""The form of a backtest or a sweep, kept as typed until it is started.

Which settings are tried is named by where they come from: a bot, a template, an earlier backtest, or the fields of a
bot form that nobody has saved. Those fields are carried along untouched, so that the way back to the bot form loses
nothing. Pairs and budget have the names that they have in the bot form; what only a backtest has begins with ``r.``,
what only a sweep has with ``p.``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.http import QueryDict

from bots import templates
from bots.backtesting.models import Backtest, Sweep
from bots.forms import BotDraft
from bots.models import Bot, BudgetKind
from marketdata.timeframes import Timeframe
from tradebot.core.decimals import dec, plain, round_to
from tradebot.core.errors import InvalidInput, NotFound

__all__ = [
    "MOST_PARAMETERS",
    "QUICK_RANGES",
    "TIMEFRAMES",
    "ParameterDraft",
    "RunDraft",
    "SweepDraft",
    "as_bot_draft",
    "found_run",
    "quick_span",
]

LONGEST: Final = 60
TIMEFRAMES: Final = frozenset(timeframe.value for timeframe in Timeframe)
MOST_CARRIED: Final = 900
MOST_PAIRS: Final = 200
MOST_PARAMETERS: Final = 4
QUICK_RANGES: Final = (("30", "30 days"), ("90", "90 days"), ("365", "1 year"), ("all", "All that is held"))
CARRIED: Final = frozenset({"strategy", "name", "account", "bot"})
"""Names of the bot form, besides those of its settings, that are carried along."""
TRAVELLING: Final = ("symbols", "budget_kind", "budget_pct", "budget_fixed", "split_budget")
"""Fields that both forms have."""
REMEMBERED: Final = ("name", "exchange", "timeframe", "start", "end", "capital", "maker", "taker", "slippage")


@dataclass(slots=True)
class RunDraft:
    """The form's content as text. ``origin`` is ``bot:7``, ``template:balanced``, ``backtest:3`` or ``form``."""

    origin: str = ""
    carried: list[tuple[str, str]] = field(default_factory=list)
    symbols: list[str] = field(default_factory=list)
    wanted_pair: str = ""
    budget_kind: str = BudgetKind.PERCENT.value
    budget_pct: str = "100"
    budget_fixed: str = ""
    split_budget: bool = True
    name: str = ""
    exchange: str = ""
    timeframe: str = ""
    start: str = ""
    end: str = ""
    capital: str = "1000"
    maker: str = "0.4"
    taker: str = "0.6"
    slippage: str = "0.05"
    coins: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    # Reading --------------------------------------------------------------------------------------------------------

    @classmethod
    def from_post(cls, data: QueryDict, remembered: Mapping[str, Any]) -> RunDraft:
        """Return the draft that a browser sent, from this form or from the bot form, which has no ``r.`` fields.

        ``remembered`` are those that were typed before somebody went to the bot form.
        """
        draft = cls(origin=data.get("origin", "form")[:60])
        if draft.origin == "form":
            draft.carried = [
                (name[:200], str(value)[:20_000])
                for name, values in data.lists()
                if name in CARRIED or name.startswith(("s.", "t."))
                for value in values
            ][:MOST_CARRIED]
        found = dict.fromkeys(symbol.strip().upper()[:40] for symbol in data.getlist("symbols") if symbol.strip())
        draft.symbols = list(found)[:MOST_PAIRS]
        draft.wanted_pair = data.get("wanted_pair", "").strip().upper()[:40]
        draft.budget_kind = "fixed" if data.get("budget_kind") == BudgetKind.FIXED else BudgetKind.PERCENT.value
        draft.budget_pct = data.get("budget_pct", "")[:LONGEST]
        draft.budget_fixed = data.get("budget_fixed", "")[:LONGEST]
        draft.split_budget = "split_budget" in data
        given = {name.removeprefix("r."): str(value) for name, value in data.items() if name.startswith("r.")}
        if not given:
            draft.recall(remembered)
        else:
            for name in REMEMBERED:
                setattr(draft, name, given.get(name, "").strip()[: 120 if name == "name" else LONGEST])
            coins = ((name.removeprefix("coin."), value) for name, value in given.items() if name.startswith("coin."))
            draft.coins = {code[:20]: value.strip()[:LONGEST] for code, value in coins}
        return draft

    @classmethod
    def from_run(cls, run: Backtest | Sweep) -> RunDraft:
        """Return the draft that would start ``run`` again."""
        kind = "backtest" if isinstance(run, Backtest) else "sweep"
        draft = cls(origin=f"{kind}:{run.pk}", name=run.name, exchange=run.exchange, timeframe=run.timeframe)
        draft.symbols = [str(symbol) for symbol in run.symbols]
        draft.start = _day_text(run.start)
        draft.end = _day_text(run.end - 1)
        draft.budget_kind, draft.split_budget = str(run.budget_kind), run.split_budget
        draft.budget_pct = plain(run.budget_pct)
        draft.budget_fixed = plain(run.budget_fixed) if run.budget_fixed else ""
        draft.maker, draft.taker, draft.slippage = (
            plain(run.maker_fee_pct),
            plain(run.taker_fee_pct),
            plain(run.slippage_pct),
        )
        balances = {str(code): str(amount) for code, amount in dict(run.balances).items()}
        draft.capital = balances.pop(run.quote_currency, draft.capital)
        draft.coins = balances
        return draft

    @classmethod
    def from_defaults(cls, origin: str, given: Mapping[str, Any]) -> RunDraft:
        """Return a draft that begins with keyword arguments of ``start_backtest``; what is missing stays usual."""
        draft = cls(origin=origin)
        draft.symbols = [str(symbol) for symbol in given.get("symbols") or ()]
        texts = {
            "exchange": "exchange",
            "timeframe": "timeframe",
            "capital": "capital",
            "budget_kind": "budget_kind",
            "budget_pct": "budget_pct",
            "budget_fixed": "budget_fixed",
            "maker_fee_pct": "maker",
            "taker_fee_pct": "taker",
            "slippage_pct": "slippage",
            "name": "name",
        }
        for key, attribute in texts.items():
            value = given.get(key)
            if value is not None and value != "":
                setattr(draft, attribute, plain(value) if isinstance(value, Decimal) else str(value))
        if draft.budget_fixed == "0":
            draft.budget_fixed = ""
        if given.get("split_budget") is not None:
            draft.split_budget = bool(given["split_budget"])
        for code, amount in dict(given.get("balances") or {}).items():
            draft.coins[str(code)] = plain(dec(amount))
        return draft

    def remembered(self, shown: BotDraft | None = None) -> dict[str, Any]:
        """Return what a person typed here, to be kept while they are at the bot form.

        ``shown`` is what the bot form will begin with, if that is not this form's own content.
        """
        kept = {name: getattr(self, name) for name in REMEMBERED} | {"coins": dict(self.coins)}
        if shown is not None:
            kept["mine"] = {name: getattr(self, name) for name in TRAVELLING}
            kept["theirs"] = {name: getattr(shown, name) for name in TRAVELLING}
        return kept

    def recall(self, remembered: Mapping[str, Any]) -> None:
        """Put back what :meth:`remembered` kept. Pairs and budget only where the bot form did not change them."""
        for name in REMEMBERED:
            value = remembered.get(name)
            if isinstance(value, str) and value:
                setattr(self, name, value)
        mine, theirs = remembered.get("mine") or {}, remembered.get("theirs") or {}
        for name in TRAVELLING:
            if name in mine and getattr(self, name) == theirs.get(name):
                setattr(self, name, mine[name])
        coins = remembered.get("coins")
        if isinstance(coins, dict):
            self.coins = {str(code): str(amount) for code, amount in coins.items()}

    # The settings ---------------------------------------------------------------------------------------------------

    @property
    def origin_kind(self) -> str:
        return self.origin.partition(":")[0]

    @property
    def origin_id(self) -> str:
        return self.origin.partition(":")[2]

    def bot(self) -> Bot | None:
        """Return the bot that the settings are of, if it is in sight. Raises NotFound when it is named and is not."""
        pk = self.origin_id if self.origin_kind == "bot" else dict(self.carried).get("bot", "")
        if not pk:
            return None
        found: Bot | None = Bot.objects.select_related("account").filter(pk=_key(pk)).first()
        if found is None and self.origin_kind == "bot":
            raise NotFound(message="There is no such bot.")
        return found

    def bot_draft(self) -> BotDraft:
        """Return the settings as the bot form holds them. Raises NotFound, InvalidInput for what cannot be read."""
        if self.origin == "form":
            data = QueryDict(mutable=True)
            for name, value in self.carried:
                data.appendlist(name, value)
            draft = BotDraft.from_post(data)
        else:
            strategy, settings = self._settings()
            draft = BotDraft.from_settings(strategy, settings)
        draft.symbols, draft.budget_kind = list(self.symbols), self.budget_kind
        draft.budget_pct, draft.budget_fixed = self.budget_pct, self.budget_fixed
        draft.split_budget = self.split_budget
        return draft

    def _settings(self) -> tuple[str, Mapping[str, Any]]:
        kind, key = self.origin_kind, self.origin_id
        source: Any = None
        if kind == "bot":
            source = self.bot()
        elif kind == "template":
            source = templates.find_template(key)
        elif kind == "backtest":
            source = Backtest.objects.filter(pk=_key(key)).first()
        elif kind == "sweep":
            source = Sweep.objects.filter(pk=_key(key)).first()
        if source is None:
            raise NotFound(message="There are no such settings.")
        return source.strategy, source.settings

    # Checking -------------------------------------------------------------------------------------------------------

    def blame(self, refusal: InvalidInput) -> None:
        """Write the errors of a refusal beside the fields they speak of; missing candles where they can be fetched."""
        if refusal.code == "no_candles":
            self.errors.setdefault("coverage", refusal.message)
            return
        for error in refusal.detail.get("errors") or [{"field": refusal.field, "message": refusal.message}]:
            name = str(error.get("field") or "").partition(".")[0]
            message = str(error.get("message") or refusal.message)
            key = FIELD_OF.get(name, "form")
            self.errors.setdefault(key, message[:1].upper() + message[1:])

    def number(self, name: str, *, optional: bool = False) -> Decimal | None:
        """Return a typed amount, or None after writing what is wrong into :attr:`errors`."""
        text = "".join(str(getattr(self, name)).split()).replace("\u2212", "-").replace(",", ".")
        if not text and optional:
            return Decimal(0)
        try:
            found = dec(text)
        except ValueError:
            self.errors.setdefault(name, "Enter a number.")
            return None
        if found < 0:
            self.errors.setdefault(name, "Enter a number that is not below zero.")
            return None
        return found

    def moments(self) -> tuple[int | None, int | None]:
        """Return the range as Unix seconds UTC, the last day included; errors go to the fields."""
        first, last = self._day("start"), self._day("end")
        if first is not None and last is not None and last < first:
            self.errors.setdefault("end", "The last day is before the first.")
        start = None if first is None else _midnight(first)
        return start, None if last is None else _midnight(last) + 86_400

    def _day(self, name: str) -> date | None:
        text = str(getattr(self, name))
        try:
            found = date.fromisoformat(text)
        except ValueError:
            self.errors.setdefault(name, "Choose a day." if not text else "Write the day as 2026-01-31.")
            return None
        if not 2009 <= found.year <= 2100:
            self.errors.setdefault(name, "There are no candles of that year.")
            return None
        return found

    def span(self) -> tuple[int, int] | None:
        """Return the range as Unix seconds where both days can be read, without blaming anything."""
        try:
            first, last = date.fromisoformat(self.start), date.fromisoformat(self.end)
        except ValueError:
            return None
        if not (2009 <= first.year <= 2100 and first <= last <= date(2100, 1, 1)):
            return None
        return _midnight(first), _midnight(last) + 86_400

    def set_span(self, start: int, end: int) -> None:
        """Take the range [start, end), Unix seconds, in whole days."""
        self.start, self.end = _day_text(start), _day_text(max(start, end - 1))

    def arguments(self, quote: str) -> dict[str, Any] | None:
        """Return the arguments of ``start_backtest`` besides the settings, or None after blaming fields."""
        start, end = self.moments()
        capital = self.number("capital")
        maker, taker, slippage = (self.number(name) for name in ("maker", "taker", "slippage"))
        fixed = self.budget_kind == BudgetKind.FIXED
        pct = self.number("budget_pct", optional=fixed)
        amount = self.number("budget_fixed", optional=not fixed)
        balances = self._balances(quote, capital)
        if not self.symbols:
            self.errors.setdefault("symbols", "Choose at least one pair.")
        if self.timeframe not in TIMEFRAMES:
            self.errors.setdefault("timeframe", "Choose a timeframe.")
        if self.errors:
            return None
        return {
            "name": self.name,
            "exchange": self.exchange,
            "symbols": list(self.symbols),
            "timeframe": self.timeframe,
            "start": start,
            "end": end,
            "capital": capital,
            "balances": balances,
            "budget_kind": self.budget_kind,
            "budget_pct": pct,
            "budget_fixed": amount,
            "split_budget": self.split_budget,
            "maker_fee_pct": maker,
            "taker_fee_pct": taker,
            "slippage_pct": slippage,
        }

    def _balances(self, quote: str, capital: Decimal | None) -> dict[str, Decimal] | None:
        """Return the opening balances where coins are among them; None leaves it to the capital."""
        bases = {symbol.partition("-")[0] for symbol in self.symbols}
        found: dict[str, Decimal] = {}
        for code, text in self.coins.items():
            if code not in bases or not text:
                continue
            try:
                amount = dec("".join(text.split()).replace(",", "."))
            except ValueError:
                self.errors.setdefault("coins", f"{code}: enter a number.")
                continue
            if amount < 0:
                self.errors.setdefault("coins", f"{code}: enter a number that is not below zero.")
            elif amount:
                found[code] = amount
        if not found or capital is None:
            return None
        return {quote: capital, **found}


FIELD_OF: Final = {
    "name": "name",
    "exchange": "exchange",
    "market": "exchange",
    "symbols": "symbols",
    "timeframe": "timeframe",
    "start": "start",
    "end": "end",
    "capital": "capital",
    "balances": "coins",
    "budget_kind": "budget_pct",
    "budget_pct": "budget_pct",
    "budget_fixed": "budget_fixed",
    "split_budget": "budget_pct",
    "maker_fee_pct": "maker",
    "taker_fee_pct": "taker",
    "slippage_pct": "slippage",
    "settings": "settings",
    "strategy": "settings",
    "parameters": "parameters",
    "method": "method",
    "samples": "samples",
    "seed": "seed",
    "objective": "objective",
    "holdout_pct": "holdout",
}
"""Where the services' names of fields stand in the form; everything else is told above it."""


# Sweeps -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ParameterDraft:
    """One setting that varies, as typed: from, to and step, or a list of values."""

    number: int
    path: str = ""
    first: str = ""
    last: str = ""
    step: str = ""
    values: str = ""
    error: str = ""
    setting: Mapping[str, Any] | None = None

    @property
    def is_used(self) -> bool:
        return bool(self.path)

    def found(self) -> list[str]:
        """Return the values in order, or nothing after writing what is wrong into :attr:`error`."""
        try:
            if self.values.strip():
                texts = [text for text in self.values.replace(";", " ").replace(", ", " ").split() if text]
                return list(dict.fromkeys(plain(_typed(text)) for text in texts))
            first, last, step = _typed(self.first), _typed(self.last), _typed(self.step)
        except ValueError:
            self.error = "Enter from, to and step, or a list of values."
            return []
        if step <= 0 or last < first:
            self.error = "The step has to be above zero and the end not below the start."
            return []
        count = int((last - first) / step) + 1
        if count > MOST_VALUES:
            self.error = f"These are {count} values; at most {MOST_VALUES} are allowed for one setting."
            return []
        return [plain(first + step * number) for number in range(count)]


MOST_VALUES: Final = 200
SUGGESTED: Final = ("take_profit", "price_deviation")
SUGGESTED_SHARES: Final = tuple(Decimal(share) for share in ("0.5", "0.8", "1", "1.5", "2"))
CENT: Final = Decimal("0.01")


@dataclass(slots=True)
class SweepDraft:
    """What a sweep asks for besides a backtest."""

    parameters: list[ParameterDraft] = field(default_factory=list)
    method: str = Sweep.Method.GRID.value
    samples: str = "100"
    seed: str = "1"
    objective: str = "return_pct"
    holdout: str = "25"

    @classmethod
    def empty(cls) -> SweepDraft:
        return cls([ParameterDraft(number) for number in range(MOST_PARAMETERS)])

    @classmethod
    def from_post(cls, data: QueryDict) -> SweepDraft:
        draft = cls.empty()
        for parameter in draft.parameters:
            start = f"p.{parameter.number}."
            parameter.path = data.get(f"{start}path", "")[:200]
            parameter.first = data.get(f"{start}from", "")[:LONGEST]
            parameter.last = data.get(f"{start}to", "")[:LONGEST]
            parameter.step = data.get(f"{start}step", "")[:LONGEST]
            parameter.values = data.get(f"{start}list", "")[:1000]
        if "p.method" in data:
            draft.method = data.get("p.method", "")[:10]
            draft.samples = data.get("p.samples", "")[:LONGEST]
            draft.seed = data.get("p.seed", "")[:LONGEST]
            draft.objective = data.get("p.objective", "")[:40]
            draft.holdout = data.get("p.holdout", "")[:LONGEST]
        return draft

    @classmethod
    def from_sweep(cls, sweep: Sweep) -> SweepDraft:
        """Return the draft that would start ``sweep`` again."""
        draft = cls.empty()
        for parameter, given in zip(draft.parameters, sweep.parameters, strict=False):
            parameter.path = str(given.get("path", ""))
            parameter.values = ", ".join(str(value) for value in given.get("values", []))
        draft.method, draft.objective = str(sweep.method), sweep.objective
        draft.samples, draft.seed = str(sweep.samples or 100), str(sweep.seed)
        draft.holdout = plain(sweep.holdout_pct)
        return draft

    def suggest(self, sweepable: Iterable[Mapping[str, Any]]) -> None:
        """Begin with the target and the distance of the safety orders, from half of what they are to twice as much."""
        known = {str(one["path"]): one for one in sweepable}
        free = [parameter for parameter in self.parameters if not parameter.is_used]
        for name in SUGGESTED:
            one = known.get(name)
            if one is None or one["value"] is None or not free:
                continue
            now, low, high = (
                dec(str(text)) if text is not None else None for text in (one["value"], one["minimum"], one["maximum"])
            )
            found = [round_to(now * share, CENT) for share in SUGGESTED_SHARES] if now else []
            found = [value for value in found if (low is None or value >= low) and (high is None or value <= high)]
            if len(found) > 1:
                parameter = free.pop(0)
                parameter.path, parameter.values = name, ", ".join(plain(value) for value in found)

    def count(self) -> int | None:
        """Return how many combinations would be tried, None while something cannot be read."""
        found = [len(parameter.found()) for parameter in self.parameters if parameter.is_used]
        if not found or not all(found):
            return None
        combinations = math.prod(found)
        if self.method == Sweep.Method.RANDOM and self.samples.strip().isdecimal():
            return min(combinations, int(self.samples.strip()[:9]))
        return combinations

    def arguments(self, errors: dict[str, str]) -> dict[str, Any]:
        """Return the arguments of ``start_sweep`` besides the backtest's; what is wrong goes into ``errors``."""
        chosen = [parameter for parameter in self.parameters if parameter.is_used]
        parameters = [{"path": parameter.path, "values": parameter.found()} for parameter in chosen]
        if not chosen:
            errors.setdefault("parameters", "Choose at least one setting to vary.")
        elif any(parameter.error for parameter in chosen):
            errors.setdefault("parameters", "Some values cannot be read.")
        numbers = {}
        for name, text in (("samples", self.samples), ("seed", self.seed)):
            used = name == "seed" or self.method == Sweep.Method.RANDOM
            if text.strip().isdecimal():
                numbers[name] = int(text.strip()[:9])
            elif used:
                errors.setdefault(name, "Enter a whole number.")
        holdout = Decimal(0)
        try:
            holdout = _typed(self.holdout) if self.holdout.strip() else holdout
        except ValueError:
            errors.setdefault("holdout", "Enter a number.")
        return {
            "parameters": parameters,
            "method": self.method,
            "samples": numbers.get("samples", 0) if self.method == Sweep.Method.RANDOM else 0,
            "seed": numbers.get("seed", 1),
            "objective": self.objective,
            "holdout_pct": holdout,
        }


def as_bot_draft(run: Backtest | Sweep) -> BotDraft:
    """Return the bot form's content for the settings of a run; the usual ones where they cannot be read any more."""
    try:
        draft = BotDraft.from_settings(run.strategy, run.settings)
    except InvalidInput:
        draft = BotDraft.empty()
    draft.name, draft.symbols = run.name[:80], [str(symbol) for symbol in run.symbols]
    draft.budget_kind, draft.split_budget = str(run.budget_kind), run.split_budget
    draft.budget_pct, draft.budget_fixed = plain(run.budget_pct), plain(run.budget_fixed) if run.budget_fixed else ""
    return draft


def found_run(query: Mapping[str, Any]) -> Backtest | Sweep | None:
    """Return the run that ``?backtest=`` or ``?sweep=`` names, None where neither does. Raises NotFound."""
    for kind, model in (("backtest", Backtest), ("sweep", Sweep)):
        if key := str(query.get(kind, "")):
            found: Backtest | Sweep | None = model.objects.filter(pk=_key(key)).first()
            if found is None:
                raise NotFound(message=f"There is no such {kind}.")
            return found
    return None


def _typed(text: str) -> Decimal:
    return dec("".join(text.split()).replace("\u2212", "-").replace(",", "."))


def _key(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 19 else 0


def _midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def _day_text(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).date().isoformat()


def quick_span(choice: str, now: int, held: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the range that a quick choice stands for; ``held`` are the stretches of candles of each pair.

    All that is held is where every pair has candles, or any where there is no such time.
    """
    stretches = [stretch for stretch in held if stretch[1] > stretch[0]]
    if choice == "all":
        if not stretches:
            return None
        common = max(start for start, _ in stretches), min(end for _, end in stretches)
        return common if common[1] > common[0] else (min(s for s, _ in stretches), max(e for _, e in stretches))
    if choice not in {days for days, _ in QUICK_RANGES}:
        return None
    return now - int(timedelta(days=int(choice)).total_seconds()), now
