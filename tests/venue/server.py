"""The fake venue's HTTP server: who asks, how often they may, what goes wrong at the wire, and who answers.

It runs in threads of the process that starts it and keeps its state for as long as that process lives, whatever
happens to its clients.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.venue.binance import Binance, Rejected
from tests.venue.bybit import Bybit
from tests.venue.coinbase import Coinbase
from tests.venue.contracts import Contracts, No
from tests.venue.control import Control
from tests.venue.desk import MAKER, TAKER
from tests.venue.engine import Engine
from tests.venue.faults import WIRE, Fault, Faults
from tests.venue.keys import ApiKey, Keyring, Unauthorized, make_key
from tests.venue.model import Malformed
from tests.venue.wire import Answer, Forbidden, NotFound, Request

HOST = "127.0.0.1"
CANONICAL_HOSTS = ("api.coinbase.com",)
"""Names a token may be signed for, besides the address under which the fake listens."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that arrived, for tests that look at what was put on the wire."""

    method: str
    path: str
    query: str
    body: Any
    account: str
    at: float

    @property
    def url(self) -> str:
        """Return path and query as they were sent."""
        return f"{self.path}?{self.query}" if self.query else self.path


class Limiter:
    """So many requests a second for each key, and for each address without one."""

    def __init__(self, private: int | None = None, public: int | None = None) -> None:
        self.private, self.public = private, public
        self._times: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def headers_if_over(self, who: str, most: int | None) -> dict[str, str] | None:
        """Count a request; return the headers of a 429 when it is one too many."""
        if most is None:
            return None
        now = time.monotonic()
        with self._lock:
            times = self._times.setdefault(who, deque())
            while times and now - times[0] >= 1:
                times.popleft()
            if len(times) < most:
                times.append(now)
                return None
            wait = max(1 - (now - times[0]), 0)
        return {
            "Retry-After": str(max(1, round(wait))),
            "X-RateLimit-Limit": str(most),
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(int(time.time() + wait) + 1),
        }


class FakeVenue:
    """A venue on a local port. A context manager: it serves inside, and is closed afterwards."""

    def __init__(self, *, port: int = 0, seed: int = 1, products: bool = True) -> None:
        self.engine, self.faults, self.keyring, self.limiter = Engine(seed), Faults(seed), Keyring(), Limiter()
        self.coinbase, self.binance = Coinbase(self.engine, self.faults), Binance(self.engine, self.faults)
        self.contracts = Contracts(self.engine)
        self.bybit = Bybit(self.engine, self.contracts, self.faults)
        self.control = Control(self)
        self.requests: deque[Seen] = deque(maxlen=20_000)
        self.counts: Counter[str] = Counter()
        self.clock_skew = 0.0
        """Seconds by which the venue's clock is ahead of ours; tokens are judged by it."""
        self.closing = threading.Event()
        self._server = _Server((HOST, port), self)
        self.port = self._server.server_address[1]
        self.url = f"http://{HOST}:{self.port}"
        self._thread: threading.Thread | None = None
        if products:
            self._usual_products()

    def _usual_products(self) -> None:
        add = self.engine.add_product
        add("BTC-USD", "60000", base_min_size="0.00000001")
        add("BTC-USDC", "60000", alias_of="BTC-USD")
        add("ETH-USD", "3000")
        add("ETH-USDC", "3000", alias_of="ETH-USD")
        add("ETH-BTC", "0.05", price_increment="0.00001", quote_min_size="0.000016", quote_increment="0.00000001")
        add("ADA-USD", "0.5", price_increment="0.0001", base_min_size="0.1")
        add("ADA-USDC", "0.5", alias_of="ADA-USD", price_increment="0.0001", base_min_size="0.1")
        add("BTC-USDT", "60000")
        add("ADA-USDT", "0.2", price_increment="0.0001", base_min_size="0.1")
        add("ETH-USDT", "3000")
        add("DOGE-USDT", "0.08", price_increment="0.00001", base_increment="0.1", base_min_size="0.1")
        for product_id in ("BTC-USDT", "ADA-USDT", "ETH-USDT", "DOGE-USDT", "ADA-USD", "ADA-USDC"):
            self.engine.products[product_id].quote_min_size = Decimal("0.1")
        self.contracts.add("BTC-USDT-PERP", "60000")
        self.contracts.add("ETH-USDT-PERP", "3000", price_increment="0.01", base_increment="0.01", base_min_size="0.01")
        self.contracts.add("WIF-USDT-PERP", "2", price_increment="0.0001", base_increment="1", max_leverage="12.50")

    def __enter__(self) -> FakeVenue:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> FakeVenue:
        """Serve in a thread and return."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True, name="venue")
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving; requests that hang because of a fault are let go."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        if self._thread is not None:
            self._thread.join(5)

    def add_account(
        self,
        name: str,
        wallets: Mapping[str, str | Decimal],
        *,
        algorithm: str = "ES256",
        maker: Decimal = MAKER,
        taker: Decimal = TAKER,
        **permissions: bool,
    ) -> ApiKey:
        """Open an account with these wallets and return a key to it. Further keys: :meth:`add_key`."""
        self.engine.add_account(name, wallets, maker, taker)
        return self.add_key(name, algorithm, **permissions)

    def add_key(self, account: str, algorithm: str = "ES256", **permissions: bool) -> ApiKey:
        """Give out another key to an account; HMAC is for the dialects of Binance and Bybit."""
        return self.keyring.add(make_key(account, algorithm, **permissions))

    def host_names(self, host_header: str) -> tuple[str, ...]:
        """Return what a token may call this venue; clients that strip only ``https://`` sign the scheme too."""
        return (*CANONICAL_HOSTS, host_header, f"http://{host_header}")

    def sent(self, ending: str = "", method: str = "") -> list[Seen]:
        """Return the requests that arrived, oldest first, whose path ends so."""
        return [seen for seen in list(self.requests) if seen.path.endswith(ending) and method in ("", seen.method)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], venue: FakeVenue) -> None:
        super().__init__(address, _Handler)
        self.venue = venue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or is killed, is no error of the venue."""


class _Cut(Exception):
    """The connection ends here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """The venue keeps its own record."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        venue = self.server.venue
        parts = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = parse_qs(parts.query, keep_blank_values=True)
        if parts.path.startswith("/_control/"):
            self._send(*venue.control.answer(parts.path.removeprefix("/_control/"), raw))
            return
        try:
            self._answer(venue, Request(method, parts.path, query, {}, parts.query, dict(self.headers)), raw)
        except _Cut:
            self.close_connection = True
            try:
                self.connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # the client was faster
                return

    def _answer(self, venue: FakeVenue, request: Request, raw: bytes) -> None:
        dialect = next((one for one in (venue.coinbase, venue.bybit) if one.speaks(request.path)), venue.binance)
        path = request.path
        handler, is_private = _route(dialect, request)
        early = self._admit(venue, dialect, request, raw, is_private)
        ids = tuple(str(value) for value in _client_ids(request))
        body = request.body or raw.decode(errors="replace")
        venue.requests.append(Seen(request.method, path, request.raw_query, body, request.account, time.time()))
        venue.counts[f"{request.method} {path}"] += 1
        drawn = {fault.action: fault for fault in venue.faults.draw(WIRE, request.method, path, request.account, ids)}
        if "delay" in drawn:
            venue.closing.wait(drawn.pop("delay").seconds)
        fault = next(iter(drawn.values()), None)
        if fault is not None and fault.when == "before" and fault.action != "half":
            self._go_wrong(venue, dialect, fault, None)
            return
        answer = early or _handle(dialect, handler, request)
        if fault is not None:
            self._go_wrong(venue, dialect, fault, answer)
            return
        self._send(*answer)

    def _admit(self, venue: FakeVenue, dialect: Any, request: Request, raw: bytes, is_private: bool) -> Any:
        """Find out who asks; return an answer when that is already the end of it."""
        if is_private:
            try:
                if dialect is venue.coinbase:
                    request.key = self._bearer(venue, request)
                else:
                    request.key = dialect.verify(venue.keyring, request, raw, time.time() + venue.clock_skew)
            except Unauthorized as error:
                return (401, dialect.error(401, str(error)))
            except Rejected as error:
                return (error.status, error.body)
            except No as error:
                return (200, venue.bybit.refused(error))
        limiter = venue.limiter
        who, most = (request.account, limiter.private) if request.key else (self.client_address[0], limiter.public)
        if (headers := limiter.headers_if_over(who, most)) is not None:
            venue.counts["rate limited"] += 1
            return (429, dialect.error(429), headers)
        if request.key is not None and not request.key.can_view:
            return (403, dialect.error(403, "Missing required scopes"))
        if raw and dialect is not venue.binance:
            try:
                body = json.loads(raw)
            except ValueError:
                return (400, dialect.error(400, "the body is no JSON"))
            if not isinstance(body, dict):
                return (400, dialect.error(400, "the body is no object"))
            request.body = body
        return None

    def _bearer(self, venue: FakeVenue, request: Request) -> ApiKey:
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        if scheme != "Bearer":
            raise Unauthorized("no token")
        hosts, now = venue.host_names(self.headers.get("Host") or ""), time.time() + venue.clock_skew
        return venue.keyring.verify(token, request.method, hosts, request.path, now)

    def _go_wrong(self, venue: FakeVenue, dialect: Any, fault: Fault, answer: Any) -> None:
        if fault.action == "timeout":
            venue.closing.wait(fault.seconds)
        if fault.action in ("timeout", "cut"):
            raise _Cut
        if fault.action == "half":
            text = _written(answer[1])
            self._send(200, text[: max(len(text) // 2, 1)], promised=len(text))
            raise _Cut
        headers = fault.headers or ({"Retry-After": "1"} if fault.status in (429, 503) else {})
        self._send(fault.status, dialect.error(fault.status, "something went wrong on order"), headers)

    def _send(
        self, status: int, body: Any, headers: Mapping[str, str] | None = None, *, promised: int | None = None
    ) -> None:
        raw = _written(body)
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(promised if promised is not None else len(raw)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)
        self.wfile.flush()


def _written(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def _client_ids(request: Request) -> list[Any]:
    body, query = request.body, request.query
    named = [body.get("client_order_id"), *(body.get("order_ids") or []), body.get("order_id"), body.get("orderLinkId")]
    named += [*query.get("newClientOrderId", []), *query.get("origClientOrderId", []), *query.get("orderLinkId", [])]
    return [value for value in named if value]


def _route(dialect: Any, request: Request) -> tuple[Any, bool]:
    """Return who answers a path, and whether a key is needed for it."""
    if (found := dialect.routes.get((request.method, request.path))) is not None:
        return found
    for (method, pattern), found in dialect.routes.items():
        if method == request.method and "*" in pattern:
            expression = re.escape(pattern).replace(r"\*", "([^/]+)")
            if match := re.fullmatch(expression, request.path):
                request.part = match.group(1)
                return found
    return _nothing_here, False


def _nothing_here(request: Request) -> Answer:
    raise NotFound(f"there is no {request.method} {request.path}")


def _handle(dialect: Any, handler: Any, request: Request) -> Answer:
    try:
        return handler(request)
    except Malformed as error:
        return 400, dialect.error(400, error.message, error.field)
    except Forbidden as error:
        return 403, dialect.error(403, str(error))
    except NotFound as error:
        return 404, dialect.error(404, str(error))
