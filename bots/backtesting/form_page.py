"""What the form of a backtest shows besides its fields: pairs to choose, candles held, settings in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from accounts.models import Account, User
from bots import strategies, templates
from bots.backtesting import sweeps
from bots.backtesting.forms import TIMEFRAMES, RunDraft
from bots.backtesting.pages import range_text
from bots.conditions import Tree, describe
from bots.form_page import no_pair
from bots.forms import BotDraft
from bots.models import Bot, BotTemplate
from bots.strategies.describe import settings_facts
from marketdata import history, sources
from marketdata.history import Coverage
from marketdata.indicators import spec_of
from marketdata.models import HistoryDownload, Product
from marketdata.timeframes import Timeframe
from marketdata.wire.venues import LIVE
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, NotFound

__all__ = ["PairCoverage", "RunForm", "download_missing", "market_of", "run_form", "take_pair", "usual_range"]

MOST_SUGGESTED: Final = 400
QUICK_PAIRS: Final = 8
FIRST_QUOTES: Final = ("USD", "USDC", "EUR", "USDT", "GBP", "BTC", "ETH")
FIRST_BASES: Final = ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "LINK", "LTC", "AVAX", "DOT")
USUAL_TIMEFRAME: Final = Timeframe.M5
USUAL_DAYS: Final = 90
DAY: Final = 86_400
RECENT: Final = timedelta(minutes=30)
MARKETS: Final = {
    **{slug: info.name for slug, info in LIVE.items()},
    sources.SIMULATED: "Simulated market",
    sources.REPLAY: "Recordings",
}
PLAIN_VALUES: Final = frozenset({"off", "any", "0 s", "at market, at once"})
PHASES: Final = (
    ("open_conditions", "Opens when {}.", "Opens at once, as soon as a deal is free."),
    ("add_conditions", "Adds at a rung's price when also {}.", ""),
    ("close_conditions", "Closes when {}.", ""),
)


@dataclass(frozen=True, slots=True)
class PairCoverage:
    """The candles of one pair that a run needs, and what of them is held.

    ``state`` is held, part or none. ``longer`` is what is held where none fits: candles of a longer timeframe.
    """

    product: Product
    timeframe: Timeframe
    held: Coverage | None
    state: str
    download: HistoryDownload | None
    percent: int
    longer: Coverage | None = None

    @property
    def is_loading(self) -> bool:
        return self.download is not None and self.download.status in history.UNDER_WAY

    @property
    def failed(self) -> str:
        """Return why the last download failed, if it did a moment ago."""
        row = self.download
        return row.error if row is not None and row.status == HistoryDownload.Status.FAILED else ""

    @property
    def gap_pct(self) -> float:
        return self.held.gap_share * 100 if self.held is not None else 0.0

    @property
    def held_text(self) -> str:
        if self.held is None:
            return ""
        return range_text(int(self.held.start.timestamp()), int(self.held.end.timestamp()))


@dataclass(slots=True)
class RunForm:
    """Everything that the form's template needs beyond the draft."""

    draft: RunDraft
    settings: BotDraft | None
    parsed: Any
    facts: list[Any]
    sentences: list[str]
    setting_errors: list[str]
    source: str
    bot: Bot | None
    products: list[Product]
    quote: str
    suggestions: list[str]
    quick: list[str]
    markets: list[tuple[str, str]]
    coverage: list[PairCoverage]
    warmup_seconds: int
    bots: list[Bot]
    presets: list[BotTemplate]
    own_templates: list[BotTemplate]
    sweepable: list[dict[str, Any]] = field(default_factory=list)

    @property
    def example(self) -> str:
        """Return a pair that may be typed, as short as it may be."""
        return self.suggestions[0].partition("-")[0] if self.suggestions else "BTC"

    @property
    def timeframes(self) -> list[str]:
        return [timeframe.value for timeframe in Timeframe]

    @property
    def is_loading(self) -> bool:
        return any(row.is_loading for row in self.coverage)

    @property
    def can_download(self) -> bool:
        """Return whether there is something to download that is not on its way."""
        if self.draft.exchange == sources.REPLAY:
            return False
        return any(row.state != "held" and not row.is_loading for row in self.coverage)

    @property
    def is_recording(self) -> bool:
        return self.draft.exchange == sources.REPLAY

    @property
    def signals_note(self) -> str:
        """Return which signals the run will use, where its rules ask for any."""
        if self.parsed is None or self.settings is None:
            return ""
        asked = strategies.get_strategy(self.settings.strategy).required_signals(self.parsed)
        if not asked:
            return ""
        kinds = " and ".join(spec_of(kind).label for kind in asked)
        if self.bot is None:
            return (
                f"{kinds}: this run is of no saved bot, so no signal counts as received and the value is 0 throughout."
            )
        return f"{kinds}: the signals that “{self.bot.name}” has received and that are still kept are used."

    @property
    def shown_facts(self) -> list[Any]:
        """Return the settings that say something: rules stand above in words, and what is off is left out."""
        return [fact for fact in self.facts if fact.value not in PLAIN_VALUES and not fact.name.endswith("_conditions")]

    @property
    def looks(self) -> int | None:
        """Return how many candles a run would look at, all pairs together."""
        span = self.draft.span()
        if span is None or self.draft.timeframe not in TIMEFRAMES or not self.products:
            return None
        return (span[1] - span[0]) // Timeframe(self.draft.timeframe).seconds * len(self.products)

    def fitted(self, start: int, end: int) -> tuple[int, int]:
        """Return the range without the parts of its first and last day that lie before and after all candles held."""
        held = [row.held for row in self.coverage if row.held is not None]
        begins = [int(one.start.timestamp()) for one in held]
        ends = [int(one.end.timestamp()) for one in held]
        first = max((moment for moment in begins if start < moment < min(start + DAY, end)), default=start)
        last = min((moment for moment in ends if max(first, end - DAY) < moment < end), default=end)
        return first, last

    @property
    def coins(self) -> list[tuple[str, str]]:
        """Return the coins that a bot which sells first may begin with, with what was typed."""
        if "short" not in self.directions and not any(self.draft.coins.values()):
            return []
        bases = dict.fromkeys(product.base for product in self.products)
        return [(code, self.draft.coins.get(code, "")) for code in bases]

    @property
    def directions(self) -> list[str]:
        found = getattr(self.parsed, "directions", None)
        return [str(direction) for direction in found] if found else [str(getattr(self.parsed, "direction", "long"))]


def market_of(user: User, account_id: str = "") -> str:
    """Return the market of the chosen account, of the default one, or the first that has pairs."""
    accounts = list(Account.objects.filter(archived_at__isnull=True))
    chosen = next((row for row in accounts if str(row.pk) == account_id), None)
    chosen = chosen or next((row for row in accounts if row.is_default and row.owner_id == user.pk), None)
    chosen = chosen or next((row for row in accounts if row.owner_id == user.pk), None)
    return chosen.exchange if chosen is not None else sources.SIMULATED


def take_pair(draft: RunDraft) -> None:
    """Move what was typed into the pair field to the chosen pairs, "XMR" completed by the quote currency."""
    wanted, draft.wanted_pair = draft.wanted_pair, ""
    if not wanted:
        return
    quote = draft.symbols[0].partition("-")[2] if draft.symbols else ""
    names = [wanted] if "-" in wanted or not quote else [wanted, f"{wanted}-{quote}"]
    rows = Product.objects.filter(exchange=draft.exchange, symbol__in=names)
    found = rows.values_list("symbol", flat=True).first()
    if found is None:
        draft.wanted_pair = wanted
        draft.errors.setdefault("symbols", no_pair(wanted, quote))
    elif found not in draft.symbols:
        draft.symbols.append(found)


def run_form(draft: RunDraft, user: User, *, for_sweep: bool = False) -> RunForm:
    """Return what the form shows for ``draft``; writes what is wrong with its pairs into the draft's errors.

    Raises NotFound for settings of a bot, template or backtest that is not in sight.
    """
    settings: BotDraft | None = None
    parsed: Any = None
    problems: list[str] = []
    try:
        settings = draft.bot_draft()
        parsed = settings.parsed()
        problems = list(settings.errors.values())
    except InvalidInput as error:
        problems = [error.message]
    products = _products(draft)
    quote = products[0].quote if products else ""
    needed, warmup = _needed(draft, settings, parsed)
    suggestions = _suggestions(draft, quote)
    return RunForm(
        draft=draft,
        settings=settings,
        parsed=parsed,
        facts=list(settings_facts(parsed, quote)) if parsed is not None else [],
        sentences=_sentences(parsed),
        setting_errors=problems,
        source=_source(draft),
        bot=draft.bot(),
        products=products,
        quote=quote,
        suggestions=suggestions,
        quick=suggestions[:QUICK_PAIRS] if len(draft.symbols) < QUICK_PAIRS else [],
        markets=_markets(draft),
        coverage=_coverage(draft, products, needed, user),
        warmup_seconds=warmup,
        bots=list(Bot.objects.filter(archived_at__isnull=True).order_by("name")[:30]),
        presets=templates.presets(),
        own_templates=templates.own_templates(user),
        sweepable=_sweepable(settings, parsed, quote)
        if for_sweep and settings is not None and parsed is not None
        else [],
    )


def _sweepable(settings: BotDraft, parsed: Any, quote: str) -> list[dict[str, Any]]:
    """Return the settings that can vary and have an effect beside the others."""
    views = (view for section in settings.sections(quote) for view in section.fields)
    idle = {view.spec.name for view in views if not view.applies}
    return [one for one in sweeps.sweepable(parsed) if str(one["path"]).partition(".")[0] not in idle]


def _source(draft: RunDraft) -> str:
    """Return in words whose settings they are."""
    kind = draft.origin_kind
    if kind == "form":
        return "as typed in the bot form, not saved"
    if kind == "bot":
        bot = draft.bot()
        return f"of the bot “{bot.name}”" if bot is not None else ""
    if kind == "template":
        return f"of the template “{templates.find_template(draft.origin_id).name}”"
    return f"of {kind} {draft.origin_id}"


def _sentences(parsed: Any) -> list[str]:
    found = []
    for name, rule, none in PHASES:
        tree = getattr(parsed, name, None)
        if isinstance(tree, Tree):
            text = none if tree.is_empty else rule.format(describe(tree))
            found += [text] if text else []
    return found


# Pairs --------------------------------------------------------------------------------------------------------------


def _products(draft: RunDraft) -> list[Product]:
    if not draft.symbols:
        return []
    rows = Product.objects.filter(exchange=draft.exchange, symbol__in=draft.symbols)
    found = {row.symbol: row for row in rows}
    unknown = [symbol for symbol in draft.symbols if symbol not in found]
    if unknown:
        draft.errors.setdefault("symbols", f"Not on this market: {', '.join(unknown)}.")
    products = [found[symbol] for symbol in draft.symbols if symbol in found]
    quotes = sorted({product.quote for product in products})
    if len(quotes) > 1:
        draft.errors.setdefault("symbols", f"One quote currency per run; these use {' and '.join(quotes)}.")
    return products


def _suggestions(draft: RunDraft, quote: str) -> list[str]:
    """Return pairs to choose from: those with candles first, then those of well-known currencies."""
    spot = Product.objects.filter(exchange=draft.exchange, kind=Product.Kind.SPOT)
    rows = spot.exclude(symbol__in=draft.symbols)
    if quote:
        rows = rows.filter(quote=quote)
    held = set(rows.filter(series__isnull=False).values_list("symbol", flat=True))
    known = sorted(
        rows.values_list("quote", "base", "symbol"),
        key=lambda row: (row[2] not in held, _rank(FIRST_QUOTES, row[0]), _rank(FIRST_BASES, row[1])),
    )
    return [symbol for _, _, symbol in known[:MOST_SUGGESTED]]


def _rank(words: Sequence[str], word: str) -> tuple[int, str]:
    return (words.index(word) if word in words else len(words), word)


def _markets(draft: RunDraft) -> list[tuple[str, str]]:
    slugs = set(Product.objects.order_by().values_list("exchange", flat=True).distinct()) | {draft.exchange}
    return sorted(((slug, MARKETS.get(slug, slug.capitalize())) for slug in slugs if slug), key=lambda row: row[1])


# Candles ------------------------------------------------------------------------------------------------------------


def usual_range(draft: RunDraft) -> None:
    """Fill in timeframe and range where nothing was chosen: what fits the candles that are held."""
    if draft.timeframe and draft.start and draft.end:
        return
    now = int(clock.now().timestamp())
    held = history.coverage(draft.exchange, draft.symbols) if draft.symbols and draft.exchange else []
    if not draft.timeframe:
        finest = min((row.timeframe for row in held), key=lambda tf: tf.seconds, default=None)
        usual = USUAL_TIMEFRAME
        if draft.exchange == sources.REPLAY and finest is not None and not usual.is_built_from(finest):
            usual = finest
        draft.timeframe = usual.value
    if draft.start and draft.end:
        return
    if draft.exchange == sources.REPLAY and held:
        end = int(max(row.end for row in held).timestamp())
        start = int(min(row.start for row in held).timestamp())
    else:
        end, start = now, now - USUAL_DAYS * DAY
    given = draft.start, draft.end
    draft.set_span(start, end)
    draft.start, draft.end = given[0] or draft.start, given[1] or draft.end


def _needed(draft: RunDraft, settings: BotDraft | None, parsed: Any) -> tuple[list[Timeframe], int]:
    """Return the timeframes from which all that a run needs can be built, and how much earlier they have to begin."""
    wanted: dict[Timeframe, int] = {}
    if parsed is not None and settings is not None:
        wanted.update(strategies.get_strategy(settings.strategy).required_series(parsed))
    warmup = max((timeframe.seconds * count for timeframe, count in wanted.items()), default=0)
    if draft.timeframe in TIMEFRAMES:
        wanted.setdefault(Timeframe(draft.timeframe), 1)
    roots = [tf for tf in wanted if not any(tf is not other and tf.is_built_from(other) for other in wanted)]
    return sorted(roots, key=lambda tf: tf.seconds), warmup


def _coverage(
    draft: RunDraft, products: Sequence[Product], needed: Sequence[Timeframe], user: User
) -> list[PairCoverage]:
    if not products or not needed:
        return []
    held = history.coverage(draft.exchange, [product.symbol for product in products])
    downloads: dict[tuple[int, str], HistoryDownload] = {}
    recent = HistoryDownload.objects.filter(owner=user, product__in=products, touched_at__gte=clock.now() - RECENT)
    for row in recent.order_by("pk"):
        downloads[row.product_id, row.timeframe] = row
    span = draft.span()
    rows = []
    for product in products:
        for timeframe in needed:
            mine = [one for one in held if one.product.pk == product.pk and timeframe.is_built_from(one.timeframe)]
            best = max(mine, key=lambda one: (_overlap(one, span), one.timeframe.seconds), default=None)
            download = downloads.get((product.pk, timeframe.value))
            other = next((one for one in held if one.product.pk == product.pk), None) if best is None else None
            rows.append(
                PairCoverage(
                    product=product,
                    timeframe=timeframe,
                    held=best,
                    state=_state(best, timeframe, span),
                    download=download,
                    percent=round(history.progress_of(download) * 100) if download is not None else 0,
                    longer=other,
                )
            )
    return rows


def _overlap(one: Coverage, span: tuple[int, int] | None) -> float:
    if span is None:
        return one.end.timestamp() - one.start.timestamp()
    return min(one.end.timestamp(), span[1]) - max(one.start.timestamp(), span[0])


def _state(held: Coverage | None, timeframe: Timeframe, span: tuple[int, int] | None) -> str:
    """Return held, part or none. The newest hours of a range that reaches to now are filled in as it starts."""
    if held is None:
        return "none"
    if span is None:
        return "held"
    end = min(span[1], int(clock.now().timestamp()) - timeframe.seconds)
    if _overlap(held, span) <= 0:
        return "none"
    near = max(timeframe.seconds, 86_400)
    fits = held.start.timestamp() <= span[0] + timeframe.seconds and held.end.timestamp() >= end - near
    return "held" if fits else "part"


def download_missing(form: RunForm, user: User) -> int:
    """Ask for the missing candles of every pair, with those that warm the indicators; return how many downloads."""
    span = form.draft.span()
    if span is None:
        form.draft.errors.setdefault("start", "Choose the range first.")
        return 0
    begun = 0
    for row in form.coverage:
        if row.state == "held" or row.is_loading:
            continue
        try:
            history.start_download(
                user,
                exchange=row.product.exchange,
                symbol=row.product.symbol,
                timeframe=row.timeframe.value,
                start=datetime.fromtimestamp(max(span[0] - form.warmup_seconds, 0), UTC),
                end=datetime.fromtimestamp(span[1], UTC),
            )
        except (InvalidInput, NotFound) as error:
            form.draft.errors.setdefault("coverage", f"{row.product.symbol}: {error.message}")
        else:
            begun += 1
    return begun
