"""How deal pages write distances and moments, beside the filters of every page. ``{% load deals %}``."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone

from tradebot.core import clock
from tradebot.core.decimals import HUNDRED
from tradebot.templatetags.tradebot import MINUS, UNKNOWN, number, written

register = template.Library()


@register.filter
def plus_pct(value: Any, places: int = 2) -> str:
    """Write a signed percentage without colour: ``+3.75 %``. It is a distance, not a profit."""
    found = number(value)
    return UNKNOWN if found is None else f"{written(found, int(places), plus=True)}\u00a0%"


@register.filter
def away(price: Any, mark: Any) -> str:
    """Write how far ``price`` is from ``mark``: ``3.75 % away``; nothing when one is not known."""
    wanted, now = number(price), number(mark)
    if wanted is None or not now:
        return ""
    return f"{written(abs(wanted / now - 1) * HUNDRED, 2)}\u00a0% away"


@register.filter
def stamp(moment: datetime | None, exact: str = "") -> str:
    """Write day and time in the reader's zone: ``16 Jan 08:30``, with the year when it is another one.

    ``exact`` adds the seconds, where several things happen within a minute.
    """
    if moment is None:
        return UNKNOWN
    local = timezone.localtime(moment)
    year = "" if local.year == timezone.localtime(clock.now()).year else f" {local.year}"
    return f"{local.day} {local:%b}{year} {local:%H:%M:%S}" if exact else f"{local.day} {local:%b}{year} {local:%H:%M}"


_IN_A_SENTENCE = re.compile(r"(?<![\w.#:/\u202f-])(-?)(\d+)(\.\d+)?(?![\w:/-])")


@register.filter
def said(sentence: Any) -> str:
    """Write the numbers in a stored sentence as pages write them: a real minus, ``60860.06`` in groups of three.

    The space between groups does not break: unlike a figure, a sentence wraps.
    """

    def number_of(match: re.Match[str]) -> str:
        sign, whole, rest = match[1], match[2], match[3] or ""
        if len(whole) > (3 if rest else 4):
            whole = f"{int(whole):,}".replace(",", "\u202f")
        return f"{sign and MINUS}{whole}{rest}"

    return _IN_A_SENTENCE.sub(number_of, str(sentence or ""))


@register.filter
def compact(value: Any) -> str:
    """Write an indicator's value with about four significant digits: ``50.6``, ``0.000012``."""
    found = number(value)
    if found is None:
        return UNKNOWN
    if not found:
        return "0"
    places = max(0, min(12, 3 - found.adjusted()))
    text = written(found, places)
    return text.rstrip("0").rstrip(".") if "." in text else text


@register.filter
def distance(value: Any) -> str:
    """Write how far an indicator still has to move: ``14.6 lower``."""
    found = number(value)
    if found is None or not found:
        return ""
    return f"{compact(abs(found))} {'higher' if found > 0 else 'lower'}"
