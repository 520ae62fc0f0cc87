"""A database that several threads and processes may write to at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections


@pytest.fixture
def shared_database(transactional_db: None, tmp_path: Path) -> Iterator[None]:
    """Let every thread and forked process open connections of its own, as in production.

    On SQLite the suite's database may live in memory, which has neither a write-ahead log nor its locks. Then the
    schema is copied into a file, opened with the project's own options, for the length of one test.
    """
    connection = connections["default"]
    if connection.vendor != "sqlite" or not connection.is_in_memory_db():
        yield
        connections.close_all()
        return
    connection.ensure_connection()
    file = tmp_path / "shared.sqlite3"
    with sqlite3.connect(file) as copy:
        connection.connection.backup(copy)
    copy.close()
    options: dict[str, Any] = connections.databases["default"]
    before = options["NAME"]
    options["NAME"] = str(file)
    del connections["default"]
    try:
        yield
    finally:
        connections["default"].close()
        options["NAME"] = before
        connections["default"] = connection
