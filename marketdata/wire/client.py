"""A ccxt client whose HTTP is ours.

ccxt signs requests and knows each exchange's error words. Everything else it would do by itself is switched off or
replaced: no repeats, no rate limiting (ours is shared between processes), no proxies, no redirects, no logging of
requests, no answer kept on the client. A client speaks to one address and to no other.

Fractions in answers stay text until they are ``Decimal``, so that no float gets between the venue and us. ccxt sets
rounding in the decimal context that it runs in, so whoever calls a client does it in a context of its own.

What happened to each request (was it sent, was it answered, how) is noted on the :class:`Exchanged` of the call in
progress, because an error's meaning depends on it more than on its class; see :mod:`marketdata.wire.failures`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from functools import cache as remembered
from typing import TYPE_CHECKING, Any, Final

import requests
from cryptography.exceptions import UnsupportedAlgorithm
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NewConnectionError

__all__ = ["Exchanged", "NoAnswer", "Unsigned", "Wrong", "client_of", "exchanging"]

CONNECT_SECONDS: Final = 3.05
LARGEST_ANSWER: Final = 64 * 1024 * 1024
CHUNK: Final = 256 * 1024


class NoAnswer(Exception):
    """There was no complete answer. Whether the request was carried out is not known if ``sent``."""


class Unsigned(Exception):
    """The keys cannot sign: they are not in the form that the venue gives them out. Nothing was sent."""


class Wrong(Exception):
    """We were about to send something to another address, or the venue sent us to one."""


@dataclass(slots=True)
class Exchanged:
    """What happened at the wire during one call. With several requests: the last one's story, and how many there were.

    ``sent`` is False only where it is certain that the venue never saw a byte of it: no connection was made.
    """

    requests: int = 0
    method: str = ""
    path: str = ""
    sent: bool = False
    status: int | None = None
    complete: bool = False
    body: Any = None
    retry_after: float | None = None


_current: ContextVar[Exchanged | None] = ContextVar("tradebot_exchanged", default=None)


@contextmanager
def exchanging() -> Iterator[Exchanged]:
    """Note what happens to the requests that are sent inside."""
    noted = Exchanged()
    token = _current.set(noted)
    try:
        yield noted
    finally:
        _current.reset(token)


def decoded(text: str) -> Any:
    """Return JSON with its fractions as text. Raises ValueError for anything else, NaN and infinity included."""
    return json.loads(text, parse_float=str, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the venue asks us to wait; None when it does not say so in seconds."""
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:
        return None
    return min(max(seconds, 0.0), 3600.0) if seconds == seconds else None


class _Transport:
    """Mixed in before a ccxt class, whose are the attributes named here: replaces what touches the network."""

    if TYPE_CHECKING:
        handle_errors: Any
        safe_number: Any
        handle_http_status_code: Any
    session: Any
    signing: threading.Lock
    base_url: str
    read_seconds: float
    number = Decimal  # what ccxt makes of each number in an answer
    clock_offset: float = 0.0
    """Seconds by which the venue's clock is ahead of ours."""

    def seconds(self) -> int:
        return int(time.time() + self.clock_offset)

    def milliseconds(self) -> int:
        return int((time.time() + self.clock_offset) * 1000)

    def microseconds(self) -> int:
        return int((time.time() + self.clock_offset) * 1_000_000)

    def parse_order_book_bid_ask(
        self, bidask: Any, price_key: Any = 0, amount_key: Any = 1, count_or_id_key: Any = 2
    ) -> list[Any]:
        """ccxt's own makes floats."""
        return [self.safe_number(bidask, price_key), self.safe_number(bidask, amount_key)]

    def set_last_request(self, request: Any) -> None:
        """Nothing is kept: a request holds a signature, and several threads share the client."""

    def sign(self, path: Any, api: Any = "public", method: str = "GET", params: Any = None, *more: Any) -> Any:
        """ccxt's, with its many ways to fail at a key made one, which says nothing of the key."""
        try:
            with self.signing:  # some venues want numbers that only grow
                return super().sign(path, api, method, params or {}, *more)  # type: ignore[misc]
        except (ArithmeticError, LookupError, TypeError, ValueError, UnsupportedAlgorithm):
            raise Unsigned("the keys are not in the venue's form") from None

    def fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        """Send one request and return its decoded answer. Raises NoAnswer, Wrong, and what ccxt makes of errors."""
        noted = _current.get() or Exchanged()
        noted.requests += 1
        noted.method, noted.path = method, url.removeprefix(self.base_url).partition("?")[0]
        noted.sent, noted.status, noted.complete, noted.body, noted.retry_after = False, None, False, None, None
        if not url.startswith(f"{self.base_url}/"):
            raise Wrong("a request for another address than the venue's")
        status, reason, answer_headers, text = self._exchange(noted, url, method, headers, body)
        return self._read(noted, (status, reason, answer_headers, text), url, method, headers, body)

    def _exchange(
        self, noted: Exchanged, url: str, method: str, headers: Any, body: Any
    ) -> tuple[int, str, Mapping[str, str], str]:
        sent_headers = {"Accept": "application/json", "User-Agent": "tradebot", **(headers or {})}
        noted.sent = True  # from here on, unless it is certain that it was not
        deadline = time.monotonic() + CONNECT_SECONDS + 2 * self.read_seconds
        try:
            with self.session.request(
                method,
                url,
                data=body.encode() if isinstance(body, str) else body,
                headers=sent_headers,
                timeout=(CONNECT_SECONDS, self.read_seconds),
                allow_redirects=False,
                stream=True,
            ) as answer:
                noted.status = answer.status_code
                noted.retry_after = _retry_after(answer.headers)
                raw = _whole(answer, deadline)
        except requests.exceptions.ConnectTimeout:
            noted.sent = False
            raise NoAnswer("no connection in time") from None
        except requests.exceptions.ConnectionError as error:
            # urllib3 tells apart what never got a connection from what lost one.
            noted.sent = not isinstance(
                getattr(error.args[0] if error.args else None, "reason", None), NewConnectionError
            )
            raise NoAnswer("the connection ended" if noted.sent else "no connection") from None
        except requests.RequestException as error:
            raise NoAnswer(type(error).__name__) from None
        noted.complete = True
        return noted.status, answer.reason or "", answer.headers, raw.decode("utf-8", errors="replace").strip()

    def _read(
        self,
        noted: Exchanged,
        answer: tuple[int, str, Mapping[str, str], str],
        url: str,
        method: str,
        sent: Any,
        body: Any,
    ) -> Any:
        status, reason, headers, text = answer
        try:
            noted.body = decoded(text) if text else None
        except ValueError:
            noted.body = None
        readable = noted.body if isinstance(noted.body, dict | list) else None
        if 300 <= status < 400:
            raise Wrong("the venue sends us to another address")
        self.handle_errors(status, reason, url, method, headers, text, readable, sent or {}, body)
        if status >= 400:
            self.handle_http_status_code(status, reason, url, method, "")
            raise NoAnswer(f"status {status}")
        if readable is None:
            raise NoAnswer("the answer is no JSON")
        return readable

    def close(self) -> None:
        """Let the connections go."""
        if (session := getattr(self, "session", None)) is not None:
            session.close()


def _whole(answer: requests.Response, deadline: float) -> bytes:
    """Read an answer to its end. Raises NoAnswer when it is endless or comes too slowly."""
    parts, size = [], 0
    for part in answer.iter_content(CHUNK):
        parts.append(part)
        size += len(part)
        if size > LARGEST_ANSWER or time.monotonic() > deadline:
            raise NoAnswer("the answer does not end")
    return b"".join(parts)


@remembered
def _class_of(slug: str) -> type[Any]:
    import ccxt

    return type(f"Tradebot{slug.title()}", (_Transport, getattr(ccxt, slug)), {})


_making = threading.Lock()


def client_of(
    slug: str,
    base_url: str,
    *,
    default_url: str,
    api_key: str = "",
    secret: str = "",
    password: str = "",
    read_seconds: float = 10.0,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Return a new ccxt client of exchange ``slug`` that speaks to ``base_url`` and to nothing else.

    Addresses of the exchange that do not begin with ``default_url`` stay as they are, and are refused when used.
    """
    with _making:  # ccxt writes to its classes when the first client is made
        client = _class_of(slug)(
            {
                "apiKey": api_key,
                "secret": secret,
                "password": password,
                "enableRateLimit": False,
                "options": {"maxRetriesOnFailure": 0, "adjustForTimeDifference": False, **(options or {})},
            }
        )
    client.session.close()
    client.session = _session()
    client.on_json_response = decoded
    client.has = {**client.has, "fetchCurrencies": False}
    client.signing = threading.Lock()
    client.base_url, client.read_seconds = base_url.rstrip("/"), read_seconds
    hostname = str(getattr(client, "hostname", "") or "")
    client.urls = {**client.urls, "api": _moved(client.urls["api"], default_url, client.base_url, hostname)}
    return client


def _moved(urls: Any, default_url: str, base_url: str, hostname: str) -> Any:
    if isinstance(urls, Mapping):
        return {name: _moved(value, default_url, base_url, hostname) for name, value in urls.items()}
    whole = str(urls).replace("{hostname}", hostname)
    return base_url + whole.removeprefix(default_url) if whole.startswith(default_url) else whole


def _session() -> requests.Session:
    session = requests.Session()
    session.headers.clear()
    session.trust_env = False  # no proxies, and no .netrc that would replace the signature
    adapter = HTTPAdapter(pool_connections=1, pool_maxsize=8, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session
