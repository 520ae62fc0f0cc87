"""The keys of an installation, made on its first start and kept in ``DATA_DIR/secrets.env``."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

__all__ = ["ensure_secrets", "write_private"]

KEYS: Final[dict[str, Callable[[], str]]] = {
    "SECRET_KEY": lambda: secrets.token_urlsafe(50),
    "ENCRYPTION_KEYS": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
}
HEADER: Final = (
    "# Made on the first start. ENCRYPTION_KEYS opens the stored venue keys: keep a copy apart from the database."
)


def ensure_secrets(file: Path, environment: Mapping[str, str]) -> list[str]:
    """Make the keys that the environment (``secrets.env`` included) lacks, add them to ``file``, return their names."""
    missing = [name for name in KEYS if not environment.get(name)]
    if missing:
        before = file.read_text() if file.is_file() else f"{HEADER}\n"
        write_private(file, before + "".join(f"{name}={KEYS[name]()}\n" for name in missing))
    return missing


def write_private(file: Path, text: str) -> None:
    """Write ``text`` so that only this user can read it, all of it or nothing."""
    fresh = file.with_name(f"{file.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(file)
