"""How numbers, ages and times are written on every page. ``{% load tradebot %}``.

Numbers: thin space between thousands, decimal point, U+2212 as minus, the product's own precision, ``–`` for unknown.
Profit and loss carry a sign, an arrow and a colour (``signed``); a percentage beside it repeats sign and colour only
(``signed_pct``). Times are in the reader's zone, which ``tradebot.middleware`` has made the current one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, Final

from django import template
from django.forms import BoundField
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from marketdata.wire.venues import LIVE
from tradebot.core import clock
from tradebot.core.decimals import MONEY, ZERO
from tradebot.core.once_pages import FIELD, new_key
from tradebot.core.words import Side

register = template.Library()


@register.simple_tag
def once() -> SafeString:
    """Write the hidden field that has a form carried out once, however often it is sent. Each form has its own."""
    return format_html('<input type="hidden" name="{}" value="{}">', FIELD, new_key())


MINUS: Final = "\u2212"
THIN: Final = "\u2009"
UNKNOWN: Final = "–"
CENTS: Final = frozenset({"USD", "EUR", "GBP", "CHF", "CAD", "AUD", "SGD", "USDC", "USDT", "DAI", "PYUSD"})
PLACES: Final = {"BTC": 6, "ETH": 5}
MOST_PLACES: Final = 8


def places_of_currency(currency: str) -> int:
    """Return how many digits after the point amounts of ``currency`` are written with where no product says it."""
    return 2 if currency in CENTS else PLACES.get(currency, MOST_PLACES)


def places_of_step(increment: Decimal) -> int:
    """Return how many digits after the point a multiple of ``increment`` needs (0.010 needs two)."""
    exponent = increment.normalize(context=MONEY).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def number(value: Any) -> Decimal | None:
    """Return ``value`` as a finite Decimal, or None when it is missing or no number."""
    if value is None or value == "":
        return None
    try:
        found = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        return None
    return found if found.is_finite() else None


def written(value: Decimal, places: int, *, plus: bool = False) -> str:
    """Return ``value`` with ``places`` digits after the point, thin spaces, a real minus, and a plus if asked for."""
    rounded = value.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN, context=MONEY)
    text = f"{abs(rounded):,.{places}f}".replace(",", THIN)
    sign = MINUS if rounded < ZERO else "+" if plus and rounded > ZERO else ""
    return sign + text


def _places(value: Decimal, how: Any) -> int:
    """Read a filter's argument: places, a currency, or nothing (as many as the number has, at most eight)."""
    if isinstance(how, bool) or how is None or how == "":
        return min(places_of_step(value), MOST_PLACES) if value else 0
    if isinstance(how, int):
        return how
    text = str(how)
    return int(text) if text.isdigit() else places_of_currency(text)


def _direction(value: Decimal, places: int) -> str:
    rounded = value.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN, context=MONEY)
    return "up" if rounded > ZERO else "down" if rounded < ZERO else "flat"


@register.filter
def amount(value: Any, how: Any = None) -> str:
    """Write an amount: ``{{ free|amount:"BTC" }}``, ``{{ value|amount:4 }}``."""
    found = number(value)
    return UNKNOWN if found is None else written(found, _places(found, how))


@register.filter
def balance(value: Any, currency: str = "") -> str:
    """Write what an account has of a currency: to the cent, or to the eighth place for coins."""
    found = number(value)
    return UNKNOWN if found is None else written(found, 2 if currency in CENTS else MOST_PLACES)


@register.filter
def coins(value: Any, currency: str = "") -> str:
    """Write what is held of a currency, beside others: to the cent, or with as many places as it has, at most eight."""
    found = number(value)
    return UNKNOWN if found is None else written(found, 2 if currency in CENTS else _places(found, None))


@register.filter
def plus(value: Any, how: Any = None) -> str:
    """Write a change with its sign but no arrow or colour, where it is neither gain nor loss: a deposit."""
    found = number(value)
    return UNKNOWN if found is None else written(found, _places(found, how), plus=True)


@register.filter
def signed(value: Any, how: Any = None) -> SafeString | str:
    """Write a profit or loss with arrow, sign and colour: ``{{ pnl|signed:"BTC" }}``."""
    found = number(value)
    if found is None:
        return format_html('<span class="faint">{}</span>', UNKNOWN)
    places = _places(found, how)
    return format_html('<span class="num {}">{}</span>', _direction(found, places), written(found, places, plus=True))


@register.filter
def pct(value: Any, places: int = 2) -> str:
    """Write a percentage without colour: ``91.3 %`` (the value is in percent)."""
    found = number(value)
    return UNKNOWN if found is None else f"{written(found, int(places))}\u00a0%"


@register.filter
def signed_pct(value: Any, places: int = 2) -> SafeString | str:
    """Write the percentage that stands beside a profit or loss: its sign and colour, without a second arrow."""
    found = number(value)
    if found is None:
        return format_html('<span class="faint">{}</span>', UNKNOWN)
    text = written(found, int(places), plus=True)
    return format_html('<span class="num noarrow {}">{}\u00a0%</span>', _direction(found, int(places)), text)


@register.filter
def moved_pct(value: Any, places: int = 1) -> SafeString | str:
    """Write how far a price moved, with its arrow: the ticker's change."""
    found = number(value)
    if found is None:
        return ""
    text = written(found, int(places), plus=True)
    return format_html('<span class="num {}">{}\u00a0%</span>', _direction(found, int(places)), text)


@register.filter
def price(value: Any, product: Any = None) -> str:
    """Write a price in the product's own precision: ``{{ average|price:deal.product }}``."""
    return _stepped(value, getattr(product, "price_increment", None))


@register.filter
def base(value: Any, product: Any = None) -> str:
    """Write an amount of a product's base currency in its own precision."""
    return _stepped(value, getattr(product, "base_increment", None))


@register.filter
def quote(value: Any, product: Any = None) -> str:
    """Write an amount of a product's quote currency in its own precision."""
    return _stepped(value, getattr(product, "quote_increment", None))


def _stepped(value: Any, increment: Decimal | None) -> str:
    found = number(value)
    if found is None:
        return UNKNOWN
    return written(found, places_of_step(increment) if increment else _places(found, None))


@register.filter
def worth_price(value: Any) -> str:
    """Write a price that no product's step belongs to: to the cent, or to five significant digits below ten."""
    found = number(value)
    if found is None:
        return UNKNOWN
    if not found or abs(found) >= 10:
        return written(found, 2)
    return written(found, min(max(2, 4 - found.adjusted()), 12))


@register.filter
def unit(currency: Any) -> SafeString | str:
    """Write a unit, small, to stand right after a number: ``{{ value|amount:"BTC" }}{{ "BTC"|unit }}``."""
    return format_html('<span class="u">{}</span>', currency) if currency else ""


@register.filter
def span(seconds: Any) -> str:
    """Write a length of time in its two largest units: ``1 d 13 h``, ``4 s``."""
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    found = number(seconds)
    if found is None:
        return UNKNOWN
    left = max(0, int(found))
    parts: list[str] = []
    for size, name in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, left = divmod(left, size)
        if parts or count:
            parts.append(f"{count} {name}")
        if len(parts) == 2:
            break
    return " ".join(part for index, part in enumerate(parts) if index == 0 or not part.startswith("0 ")) or "0 s"


@register.filter
def age(moment: datetime | None, until: datetime | None = None) -> str:
    """Write how long ago ``moment`` was (or how long from it to ``until``), in two units."""
    return UNKNOWN if moment is None else span((until or clock.now()) - moment)


@register.filter
def localtime(moment: datetime | None, style: str = "") -> str:
    """Write a moment in the reader's zone, as ``16 Jan 2018, 20:14``, or in a style.

    ``time`` and ``day`` are parts of it; ``short`` is the time today and the day otherwise; ``full`` has the weekday
    and seconds and names the zone.
    """
    if moment is None:
        return UNKNOWN
    local = timezone.localtime(moment)
    day = f"{local.day} {local:%b}"
    if style == "time":
        return f"{local:%H:%M}"
    if style == "day":
        return f"{day} {local.year}"
    if style == "short":
        return f"{local:%H:%M}" if local.date() == timezone.localtime(clock.now()).date() else day
    if style == "full":
        return f"{local:%A} {local.day} {local:%B} {local.year}, {local:%H:%M:%S} {local.tzname()}"
    return f"{day} {local.year}, {local:%H:%M}"


@register.filter
def words(code: Any) -> str:
    """Write a code as words: ``take_profit`` becomes ``take profit``."""
    return str(code or "").replace("_", " ")


@register.filter
def bought_or_sold(side: str) -> str:
    """Write an order's side as what happened."""
    return "Bought" if side == Side.BUY else "Sold"


@register.filter
def control(field: BoundField) -> SafeString:
    """Draw a form field's widget in the house look."""
    kind = field.widget_type
    name = {
        "checkbox": "form-check-input",
        "radioselect": "",
        "select": "form-select",
        "nullbooleanselect": "form-select",
    }
    wanted = name.get(kind, "form-control")
    given = str(field.field.widget.attrs.get("class", ""))
    return field.as_widget(attrs={"class": f"{given} {wanted}".strip()} if wanted or given else None)


@register.simple_tag
def icon(name: str) -> SafeString:
    """Draw an icon of the sprite in ``components/icons.html``; the name beside it says what it is."""
    return format_html('<svg class="i" aria-hidden="true"><use href="#i-{}"/></svg>', name)


@register.simple_tag(takes_context=True)
def with_query(context: dict[str, Any], **changes: Any) -> str:
    """Return ``?…`` with the present query and these changes; None or "" removes a name. Page 1 needs no name."""
    request = context.get("request")
    query = request.GET.copy() if request is not None else None
    if query is None:
        return ""
    for name, value in changes.items():
        if value in (None, "") or (name == "page" and value == 1):
            query.pop(name, None)
        else:
            query[name] = str(value)
    return f"?{query.urlencode()}" if query else "?"


@register.filter
def exchange_name(slug: str) -> str:
    """Return how people call a market: Coinbase, OKX."""
    return LIVE[slug].name if slug in LIVE else str(slug).capitalize()


@register.filter
def with_money(account: Any) -> str:
    """Say on a button which money moves: "on paper", or "on Coinbase with real money"."""
    if account is None:
        return ""
    return "on paper" if account.is_paper else f"on {exchange_name(account.exchange)} with real money"
