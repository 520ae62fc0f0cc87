"""Secrets at rest: AES-256-GCM under a list of keys, each ciphertext bound to its row and column.

``ENCRYPTION_KEYS`` holds base64 keys of 32 bytes, newest first: the first one encrypts, all of them decrypt, so a key
is rotated by putting a new one in front and saving every row again (``manage.py rotate_keys``). They are never
SECRET_KEY.
The bound data (table, column, owner of the row) is authenticated: a ciphertext copied to another row does not open.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models

from tradebot.core.redaction import remember

__all__ = ["EncryptedField", "Secret", "generate_key", "key_id"]

_VERSION = "v1"


class SecretUnreadable(RuntimeError):
    """No key at hand opens the ciphertext, or it was moved to another row."""


def generate_key() -> str:
    """Return a new random key in the form that ENCRYPTION_KEYS takes."""
    return base64.urlsafe_b64encode(AESGCM.generate_key(256)).decode()


def key_id(key: bytes) -> str:
    """Return the short public name of a key, stored beside what it encrypted."""
    return hashlib.sha256(b"tradebot key id" + key).hexdigest()[:8]


def _keys() -> dict[str, bytes]:
    keys = [base64.urlsafe_b64decode(text) for text in settings.ENCRYPTION_KEYS]
    if not keys or any(len(key) != 32 for key in keys):
        raise ImproperlyConfigured("ENCRYPTION_KEYS needs base64 keys of 32 bytes, newest first")
    return {key_id(key): key for key in keys}


def seal(text: str, binding: str) -> str:
    """Encrypt ``text`` under the newest key, bound to ``binding``."""
    name, key = next(iter(_keys().items()))
    nonce = os.urandom(12)
    sealed = AESGCM(key).encrypt(nonce, text.encode(), binding.encode())
    return ":".join((_VERSION, name, base64.urlsafe_b64encode(nonce + sealed).decode()))


def unseal(stored: str, binding: str) -> str:
    """Decrypt what :func:`seal` made. Raises SecretUnreadable for an unknown key, a wrong binding or damage."""
    try:
        version, name, body = stored.split(":")
        raw = base64.urlsafe_b64decode(body)
        key = _keys()[name]
        if version != _VERSION:
            raise SecretUnreadable("unknown format")
        return AESGCM(key).decrypt(raw[:12], raw[12:], binding.encode()).decode()
    except (ValueError, KeyError, InvalidTag) as error:
        raise SecretUnreadable("this secret cannot be opened with the keys at hand") from error


class Secret:
    """A secret that shows itself only through :meth:`reveal`; its repr, str and JSON say nothing.

    From the moment its text is known here, log lines and stored errors are searched for it.
    """

    __slots__ = ("_binding", "_plain", "_sealed")

    def __init__(self, plain: str | None = None, *, sealed: str | None = None, binding: str = "") -> None:
        self._plain, self._sealed, self._binding = plain, sealed, binding
        if plain:
            remember(plain)

    def reveal(self) -> str:
        """Return the plain text. Raises SecretUnreadable."""
        if self._plain is not None:
            return self._plain
        text = unseal(self._sealed or "", self._binding)
        remember(text)
        return text

    @property
    def key_name(self) -> str:
        """The id of the key that sealed the stored form, "" when not stored yet."""
        return self._sealed.split(":")[1] if self._sealed else ""

    def __bool__(self) -> bool:
        return bool(self._plain or self._sealed)

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__


class _SecretAttribute:
    """Wraps what is stored in a Secret on reading, and plain text in a Secret on assignment."""

    def __init__(self, field: EncryptedField) -> None:
        self.field = field

    def __get__(self, row: Any, owner: type | None = None) -> Any:
        if row is None:
            return self
        if self.field.attname not in row.__dict__:
            row.refresh_from_db(fields=[self.field.attname])
        value = row.__dict__[self.field.attname]
        if isinstance(value, Secret):
            return value
        return Secret(sealed=value, binding=self.field.binding_of(row)) if value else Secret("")

    def __set__(self, row: Any, value: Any) -> None:
        row.__dict__[self.field.attname] = value


class EncryptedField(models.TextField):
    """Text encrypted at rest, bound to the row by ``bound_to`` (an attribute fixed for the row's life).

    Assign ``Secret("plain text")``; reading gives a :class:`Secret`. It cannot be searched, ordered or serialised.
    """

    def __init__(self, *args: Any, bound_to: str, **kwargs: Any) -> None:
        self.bound_to = bound_to
        kwargs.setdefault("blank", True)
        kwargs.setdefault("default", "")
        kwargs["editable"] = False
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        kwargs["bound_to"] = self.bound_to
        kwargs.pop("editable", None)
        return name, path, args, kwargs

    def contribute_to_class(self, cls: Any, name: str, private_only: bool = False) -> None:
        super().contribute_to_class(cls, name, private_only)
        setattr(cls, name, _SecretAttribute(self))

    def binding_of(self, row: Any) -> str:
        return f"{row._meta.db_table}.{self.column}:{getattr(row, self.bound_to)}"

    def pre_save(self, model_instance: Any, add: bool) -> str:
        value = getattr(model_instance, self.attname)
        if not value:
            return ""
        if getattr(model_instance, self.bound_to) is None:
            raise ValueError(f"{self.name} needs {self.bound_to} before it can be encrypted")
        sealed = seal(value.reveal(), self.binding_of(model_instance))
        model_instance.__dict__[self.attname] = sealed
        return sealed

    def get_lookup(self, lookup_name: str) -> Any:
        if lookup_name in {"isnull", "exact"}:
            return super().get_lookup(lookup_name)
        raise TypeError("an encrypted field cannot be searched")
