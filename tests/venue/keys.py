"""API keys of the fake venue, and the tokens they sign: ES256 or EdDSA, one token for one request, 120 s at most."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

LIFETIME = 120
LEEWAY = 5
"""Seconds by which a client's clock may be ahead."""


@dataclass(slots=True)
class ApiKey:
    """A key to one account. ``secret`` is what a person pastes into a form: PEM (ES256) or base64 (EdDSA)."""

    name: str
    secret: str
    account: str
    public: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | None
    can_view: bool = True
    can_trade: bool = True
    can_transfer: bool = False
    can_trade_contracts: bool = True
    is_revoked: bool = False


def make_key(account: str, algorithm: str = "ES256", **permissions: bool) -> ApiKey:
    """Make a key pair as the venue's key page does; ``algorithm`` is ES256, EdDSA, or HMAC for Binance and Bybit."""
    if algorithm == "HMAC":
        return ApiKey(secrets.token_hex(32), secrets.token_hex(32), account, None, **permissions)
    if algorithm == "EdDSA":
        private = ed25519.Ed25519PrivateKey.generate()
        public = private.public_key()
        raw = private.private_bytes_raw() + public.public_bytes_raw()
        return ApiKey(str(uuid.uuid4()), base64.b64encode(raw).decode(), account, public, **permissions)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    name = f"organizations/{uuid.uuid4()}/apiKeys/{uuid.uuid4()}"
    return ApiKey(name, pem.decode(), account, key.public_key(), **permissions)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def sign(name: str, secret: str, method: str, host: str, path: str, **changes: Any) -> str:
    """Return a token for one request; ``changes`` replace claims, for tests of what is refused."""
    now = int(time.time())
    claims: dict[str, Any] = {"sub": name, "iss": "cdp", "nbf": now, "exp": now + LIFETIME}
    claims |= {"uri": f"{method} {host}{path}"} | changes
    is_ec = secret.startswith("-----BEGIN")
    header = {"alg": "ES256" if is_ec else "EdDSA", "kid": name, "nonce": secrets.token_hex(16), "typ": "JWT"}
    signed = f"{_encode(json.dumps(header).encode())}.{_encode(json.dumps(claims).encode())}"
    if is_ec:
        key = serialization.load_pem_private_key(secret.encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    else:
        seed = base64.b64decode(secret)[:32]
        signature = ed25519.Ed25519PrivateKey.from_private_bytes(seed).sign(signed.encode())
    return f"{signed}.{_encode(signature)}"


class Unauthorized(Exception):
    """The token does not prove who asks."""


class Keyring:
    """The keys that the venue has given out, and the tokens it has seen."""

    def __init__(self) -> None:
        self.keys: dict[str, ApiKey] = {}
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, key: ApiKey) -> ApiKey:
        """Let requests signed by ``key`` in."""
        self.keys[key.name] = key
        return key

    def verify(self, token: str, method: str, hosts: tuple[str, ...], path: str, now: float) -> ApiKey:
        """Return the key that signed ``token`` for exactly this request. Raises Unauthorized.

        ``hosts`` are the names the venue goes by; ``now`` is its own clock in Unix seconds.
        """
        try:
            head, body, tail = token.split(".")
            header, claims, signature = json.loads(_decode(head)), json.loads(_decode(body)), _decode(tail)
            key = self.keys[header["kid"]]
            uris = claims.get("uris") or [claims["uri"]]
            starts, ends = float(claims["nbf"]), float(claims["exp"])
        except (ValueError, KeyError, TypeError) as error:
            raise Unauthorized(f"unreadable token: {error!r}") from None
        if key.is_revoked or claims.get("sub") != key.name:
            raise Unauthorized("no such key")
        self._check_signature(key, header.get("alg"), f"{head}.{body}".encode(), signature)
        if not starts - LEEWAY <= now <= ends or ends - starts > LIFETIME:
            raise Unauthorized("the token is not valid now")
        if not any(f"{method} {host}{path}" in uris for host in hosts):
            raise Unauthorized(f"the token is for {uris}, not for {method} {path}")
        if not header.get("nonce"):
            raise Unauthorized("the token has no nonce")
        with self._lock:
            self._seen = {seen: until for seen, until in self._seen.items() if until >= now}
            if token in self._seen:
                raise Unauthorized("the token has been used")
            self._seen[token] = ends
        return key

    @staticmethod
    def _check_signature(key: ApiKey, algorithm: str | None, signed: bytes, signature: bytes) -> None:
        try:
            if algorithm == "ES256" and isinstance(key.public, ec.EllipticCurvePublicKey) and len(signature) == 64:
                r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
                key.public.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
            elif algorithm == "EdDSA" and isinstance(key.public, ed25519.Ed25519PublicKey):
                key.public.verify(signature, signed)
            else:
                raise Unauthorized(f"a token signed by {algorithm} does not fit this key")
        except InvalidSignature:
            raise Unauthorized("wrong signature") from None
