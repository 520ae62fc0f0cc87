"""What a new installation begins with, made once for a run of the suite: a migrated database and the static files.

Both take seconds and are the same every time, so whoever needs an installation begins with a copy. That one can be
made from nothing is what ``tests/runtime/test_serve.py`` shows.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.runtime.serving import environment
from tradebot.runtime.environment import ROOT

DATABASE: Final = "tradebot.sqlite3"
MAKE: Final = """
import django
django.setup()
from django.core.management import call_command
from django.db import connections
from tradebot.management.commands.prepare import collect_static_files
call_command("migrate", verbosity=0)
collect_static_files()
connections.close_all()
"""


def prepared_in(folder: Path) -> Path:
    """Return the data folder to copy, below ``folder``; the first process of several that asks makes it."""
    made = folder / "prepared"
    with (folder / "prepared.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_dir():
            _make(folder / "preparing")
            (folder / "preparing").rename(made)
    return made


def _make(data_dir: Path) -> None:
    shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.mkdir()
    secrets = {"SECRET_KEY": "of-no-installation", "ENCRYPTION_KEYS": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}
    settings = {"DJANGO_SETTINGS_MODULE": "tradebot.settings", **secrets}
    done = subprocess.run(
        [sys.executable, "-c", MAKE],
        env=environment(data_dir, 0, **settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
