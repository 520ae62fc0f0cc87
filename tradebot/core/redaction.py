"""Keeping secrets out of text that leaves the process by itself: log lines, stored errors. Pure: knows no Django.

Whoever handles a secret tells :func:`remember` (``tradebot.core.crypto.Secret`` does, so no caller has to think of it),
and :func:`redact` takes every remembered secret out of a text, in the forms in which other libraries carry it around:
line by line (private keys span several), with escaped line ends, percent-encoded, in base64. What was never remembered
but looks like a secret (private keys, signed tokens, headers and parameters that carry keys or signatures) goes as
well. Texts are short and secrets few: a line costs some tens of microseconds, see the test that measures it.
"""

from __future__ import annotations

import base64
import re
import threading
from typing import Final
from urllib.parse import quote, quote_plus

__all__ = ["REDACTED", "SHORTEST", "described", "forget", "is_secret_name", "redact", "remember"]

REDACTED: Final = "[secret]"
SHORTEST: Final = 6
"""Shorter ones are found by the names they go by only: taking "abc" out of every text would leave none readable."""
MOST_FORMS: Final = 20_000

_lock = threading.Lock()
_forms: dict[str, None] = {}
"""What is looked for, oldest first, and longer forms of a secret before their parts."""

_NAMES: Final = (
    r"(?:authorization|cookie|x-mbx-apikey|cb-access-[\w-]+|ok-access-[\w-]+|x-bapi-[\w-]+|kc-api-[\w-]+"
    r"|api[-_]?key|api[-_]?sign|[\w-]*signature|[\w-]*passphrase|[\w-]*password|[\w-]*secret|private[-_]?key"
    r"|[\w-]*token)"
)
_NAMED: Final = re.compile(
    rf"""(?ix)(?<![\w-])({_NAMES})(\\?["']?\s*[:=]\s*\\?["']?)(?!\[secret\])(?:(?:Bearer|Token|Basic)\s+)?[^\s"'\\,;&}}\])<>]+"""
)
_SHAPES: Final = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
)
_SECRET_NAME: Final = re.compile(rf"(?i)^{_NAMES}$")


def remember(secret: str) -> None:
    """Look for ``secret`` in every text from now on."""
    if len(secret.strip()) < SHORTEST or secret.strip() in _forms:
        return
    with _lock:
        for form in _forms_of(secret):
            _forms[form] = None
        while len(_forms) > MOST_FORMS:
            del _forms[next(iter(_forms))]


def redact(text: str) -> str:
    """Return ``text`` without secrets."""
    with _lock:
        known = [form for form in _forms if form in text]
    for form in sorted(known, key=len, reverse=True):
        text = text.replace(form, REDACTED)
    for shape in _SHAPES:
        text = shape.sub(REDACTED, text)
    return _NAMED.sub(rf"\1\2{REDACTED}", text)


def described(error: BaseException) -> str:
    """Return an unexpected error in words that may be stored and shown."""
    return redact(f"{type(error).__name__}: {error}")


def is_secret_name(name: str) -> bool:
    """Return whether a value that goes by this name is taken for a secret, whatever it is."""
    return _SECRET_NAME.match(name) is not None


def forget() -> None:
    """Look for none of them any more. For tests."""
    with _lock:
        _forms.clear()


def _forms_of(secret: str) -> list[str]:
    whole = secret.strip()
    forms = [whole, whole.replace("\n", "\\n"), quote(whole, safe=""), quote_plus(whole)]
    forms.append(base64.b64encode(whole.encode()).decode().rstrip("="))
    lines = [line.strip() for line in whole.splitlines()]
    # A last line may be short: what is that short says nothing, and its words may be anybody's.
    forms += [line for line in lines if len(line) >= 12 and not line.startswith("-----")]
    return [form for form in dict.fromkeys(forms) if len(form) >= SHORTEST]
