"""What senders send, in their several ways, as one alert. Pure.

Understood are a JSON object and a text of ``name=value`` words. Names have synonyms, so that alerts of TradingView,
whose placeholders are ``{{ticker}}``, ``{{strategy.order.action}}`` and ``{{timenow}}``, are read as well as our own;
what else a sender puts in is left alone.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from marketdata.signals import SignalAction, SignalKind
from tradebot.core.errors import InvalidInput

__all__ = [
    "EVERY_PAIR",
    "LONGEST_ID",
    "LONGEST_PAIR",
    "LONGEST_REASONING",
    "Alert",
    "alert_of",
    "fields_of",
    "matching",
    "secret_of",
]

LONGEST_ID: Final = 100
LONGEST_PAIR: Final = 60
LONGEST_REASONING: Final = 500
MILLISECONDS_FROM: Final = 100_000_000_000
"""A Unix time this large counts milliseconds: in seconds it would lie in the year 5138."""

NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "pair": ("pair", "ticker", "symbol"),
    "action": ("action", "side", "order_action"),
    "sent_at": ("sent_at", "timenow", "time", "timestamp"),
    "external_id": ("id", "external_id"),
    "reasoning": ("reasoning", "text", "comment", "message"),
    "kind": ("kind",),
    "confidence": ("confidence",),
}
ACTIONS: Final = {
    "buy": SignalAction.BUY,
    "long": SignalAction.BUY,
    "sell": SignalAction.SELL,
    "short": SignalAction.SELL,
}
MEANT_BY: Final = {SignalKind.AI_BUY: SignalAction.BUY, SignalKind.AI_SELL: SignalAction.SELL}
EVERY_PAIR: Final = frozenset({"*", "all"})

_WORD: Final = re.compile(r"""([A-Za-z_][A-Za-z0-9_.]*)\s*[=:]\s*("[^"]*"|'[^']*'|[^\s,;]+)""")


@dataclass(frozen=True, slots=True)
class Alert:
    """What a bot is told. ``pair`` is as the sender wrote it, "" where none is named; ``every_pair``: all of them."""

    kind: SignalKind = SignalKind.WEBHOOK
    pair: str = ""
    every_pair: bool = False
    action: SignalAction | None = None
    confidence: float | None = None
    reasoning: str = ""
    external_id: str = ""
    sent_at: datetime | None = None


def _bad(field: str, message: str) -> InvalidInput:
    return InvalidInput("bad_signal", message, field=field)


def fields_of(body: bytes) -> dict[str, Any]:
    """Return the named values of a body. Raises InvalidInput for one that is neither JSON nor ``name=value`` words."""
    try:
        text = body.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise _bad("body", "The body is not text in UTF-8.") from None
    if text.startswith("{"):
        try:
            found = json.loads(text, parse_constant=_refused_constant)
        except (ValueError, RecursionError):
            raise _bad("body", "The body begins like JSON and cannot be read as such.") from None
        return _flat(found)
    words = {name: value.strip("\"'") for name, value in _WORD.findall(text)}
    # A word without a name may be the pair or the action: to pass it over would be to act on half of an alert.
    loose = _WORD.sub(" ", text).replace(",", " ").replace(";", " ").split()
    if loose or not words:
        raise _bad("body", "The body is neither a JSON object nor words that are all of the form name=value.")
    return words


def _refused_constant(name: str) -> Any:
    raise ValueError(name)


def _flat(found: dict[str, Any]) -> dict[str, Any]:
    """Lift TradingView's ``{"strategy": {"order": {"action": …}}}`` to the names that a flat alert uses."""
    strategy = found.get("strategy")
    order = strategy.get("order") if isinstance(strategy, Mapping) else None
    if isinstance(order, Mapping) and "action" in order:
        return {"action": order["action"], **found}
    return found


def secret_of(fields: Mapping[str, Any]) -> str:
    """Return the secret that a body carries, empty where there is none."""
    secret = fields.get("secret")
    return secret if isinstance(secret, str) else ""


def alert_of(fields: Mapping[str, Any]) -> Alert:
    """Return the alert. Raises InvalidInput naming the field that cannot be read."""
    given = {name: _first(fields, names) for name, names in NAMES.items()}
    kind = _kind(given["kind"])
    confidence = _confidence(given["confidence"])
    if confidence is None and kind is not SignalKind.WEBHOOK:
        raise _bad("confidence", "An opinion says how sure it is: confidence, 0 to 100.")
    action = _action(given["action"])
    if action is not None and MEANT_BY.get(kind, action) is not action:
        raise _bad("action", f"A signal of the kind {kind} cannot ask for a {action}.")
    pair = _text("pair", given["pair"])[:LONGEST_PAIR]
    return Alert(
        kind=kind,
        pair=pair,
        every_pair=pair.lower() in EVERY_PAIR,
        action=action,
        confidence=confidence,
        reasoning=_text("reasoning", given["reasoning"])[:LONGEST_REASONING],
        external_id=_external_id(given["external_id"]),
        sent_at=_moment(given["sent_at"]),
    )


def _first(fields: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((fields[name] for name in names if fields.get(name) is not None), None)


def _text(field: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _bad(field, f"{field} is to be a text.")
    return " ".join("".join(mark if mark.isprintable() else " " for mark in str(value)).split())


def _kind(value: Any) -> SignalKind:
    if value is None:
        return SignalKind.WEBHOOK
    try:
        return SignalKind(_text("kind", value).lower())
    except ValueError:
        raise _bad("kind", f"{value!r} is no kind of signal; known are {', '.join(SignalKind)}.") from None


def _action(value: Any) -> SignalAction | None:
    word = _text("action", value).lower()
    if not word:
        return None
    if word not in ACTIONS:
        raise _bad("action", f"{word[:40]!r} is no action; understood are {', '.join(ACTIONS)}.")
    return ACTIONS[word]


def _confidence(value: Any) -> float | None:
    if value is None:
        return None
    try:
        number = float(value) if not isinstance(value, bool | list | dict) else math.nan
    except ValueError:
        number = math.nan
    if not 0 <= number <= 100:  # NaN is neither
        raise _bad("confidence", "confidence is a number from 0 to 100.")
    return number


def _external_id(value: Any) -> str:
    found = _text("id", value)
    if len(found) > LONGEST_ID:
        raise _bad("id", f"An id has at most {LONGEST_ID} characters, this one has {len(found)}.")
    return found


def _moment(value: Any) -> datetime | None:
    """Return a time given as ISO 8601 (UTC unless it says otherwise) or as Unix seconds or milliseconds."""
    written = _text("sent_at", value)
    if not written:
        return None
    try:
        try:
            number = float(written)
        except ValueError:
            found = datetime.fromisoformat(written)
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        return datetime.fromtimestamp(number / 1000 if number >= MILLISECONDS_FROM else number, UTC)
    except (ValueError, OverflowError, OSError):
        raise _bad(
            "sent_at", f"{written[:40]!r} is no time; ISO 8601 and Unix seconds or milliseconds are understood."
        ) from None


def matching(written: str, symbols: Iterable[str]) -> str | None:
    """Return the one of ``symbols`` (BASE-QUOTE) that a sender means by ``written``, None when none or several fit.

    ``COINBASE:ETHUSD``, ``ETH/USD`` and ``eth-usd`` all mean ETH-USD.
    """
    wanted = written.strip().upper()
    known = list(symbols)
    if wanted in known:
        return wanted
    plain = _plain(wanted.rsplit(":", 1)[-1])
    fitting = [symbol for symbol in known if _plain(symbol) == plain]
    return fitting[0] if plain and len(fitting) == 1 else None


def _plain(text: str) -> str:
    return "".join(mark for mark in text.upper() if mark.isalnum())
