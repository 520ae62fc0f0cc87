"""Four writers at once, as threads and as processes: nobody is told that the database is locked, and no sum is off."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from django.db import connection, connections, transaction

from tradebot.core.models import AuditEntry
from tradebot.core.scoping import all_accounts

WRITERS, ROUNDS = 4, 40
ROOT = Path(__file__).resolve().parents[2]

WRITER = """
import sys
import django
from django.conf import settings
settings.DATABASES["default"]["NAME"] = sys.argv[1]
django.setup()
from tests.core.test_writers import write_rounds
write_rounds(sys.argv[2], int(sys.argv[3]))
"""


def write_rounds(name: str, rounds: int) -> None:
    """Read, then write, then read again in each transaction: what upgrades a lock, and fails with default options."""
    with all_accounts("test data"):
        for number in range(rounds):
            with transaction.atomic():
                before = AuditEntry.objects.filter(actor=name).count()
                AuditEntry.objects.create(actor=name, action="test", target=str(number))
                assert AuditEntry.objects.filter(actor=name).count() == before + 1


def counted() -> dict[str, int]:
    with all_accounts("test looks"):
        return {name: AuditEntry.objects.filter(actor=name).count() for name in ("w0", "w1", "w2", "w3")}


@pytest.mark.django_db(transaction=True)
def test_four_threads_write_without_a_lock_error() -> None:
    failures: list[Exception] = []

    def work(name: str) -> None:
        try:
            write_rounds(name, ROUNDS)
        except Exception as error:  # noqa: BLE001 (the main thread raises it)
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert counted() == dict.fromkeys(counted(), ROUNDS)


@pytest.mark.django_db(transaction=True)
def test_four_processes_write_without_a_lock_error() -> None:
    name = str(connection.settings_dict["NAME"])
    # `pytest` among the arguments makes the settings those of tests, as in this process.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "tradebot.settings", "DEBUG": "1"}
    if connection.vendor == "postgresql":
        environment["DATABASE_URL"] = os.environ["TEST_DATABASE_URL"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, name, f"w{number}", str(ROUNDS)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(WRITERS)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * WRITERS, errors
    assert counted() == dict.fromkeys(counted(), ROUNDS)
