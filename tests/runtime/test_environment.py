"""What a start depends on: keys made once and kept private, a socket path that fits, a port that is free."""

from __future__ import annotations

import base64
import os
import socket
from pathlib import Path

import pytest
from django.conf import settings

from tests.runtime.serving import free_port
from tradebot.core.tasks import ScopedTask
from tradebot.runtime import supervisor
from tradebot.runtime.children import Child
from tradebot.runtime.environment import Environment, valkey_socket
from tradebot.runtime.secrets import ensure_secrets


def test_keys_are_made_once_and_only_this_user_can_read_them(tmp_path: Path) -> None:
    file = tmp_path / "secrets.env"
    assert ensure_secrets(file, {}) == ["SECRET_KEY", "ENCRYPTION_KEYS"]
    assert file.stat().st_mode & 0o777 == 0o600
    made = dict(line.split("=", 1) for line in file.read_text().splitlines() if not line.startswith("#"))
    assert len(made["SECRET_KEY"]) >= 50
    assert len(base64.urlsafe_b64decode(made["ENCRYPTION_KEYS"])) == 32
    before = file.read_text()
    assert ensure_secrets(file, made) == []
    assert file.read_text() == before


def test_a_key_that_the_environment_has_is_not_made_and_others_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "secrets.env"
    file.write_text("SECRET_KEY=kept\n")
    assert ensure_secrets(file, {"SECRET_KEY": "kept"}) == ["ENCRYPTION_KEYS"]
    assert file.read_text().startswith("SECRET_KEY=kept\nENCRYPTION_KEYS=")
    assert ensure_secrets(tmp_path / "none", {"SECRET_KEY": "a", "ENCRYPTION_KEYS": "b"}) == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("length", [1, 60, 90, 200])
def test_the_socket_path_fits_whatever_the_data_folder_is_called(length: int) -> None:
    folder = Path("/srv") / ("ü" * length)
    path = valkey_socket(folder)
    assert len(os.fsencode(path)) < 108
    assert path == valkey_socket(folder)
    assert path != valkey_socket(folder / "other")


def test_the_socket_stands_in_the_data_folder_when_it_fits() -> None:
    assert valkey_socket(Path("/srv/tradebot/var")) == Path("/srv/tradebot/var/valkey.sock")


def test_a_short_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "tradebot-0-abc"
    theirs.mkdir(mode=0o777)
    theirs.chmod(0o777)
    with pytest.raises(supervisor.StartFailed, match="shorter path"):
        supervisor._private_folder(theirs, tmp_path)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(supervisor.StartFailed):
        supervisor._private_folder(link, tmp_path)


def test_a_taken_or_impossible_port_is_seen_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert supervisor._port_taken("127.0.0.1", taken.getsockname()[1])
    assert supervisor._port_taken("127.0.0.1", 70_000)
    assert supervisor._port_taken("no.such.host.invalid", 8000)
    assert supervisor._port_taken("127.0.0.1", free_port()) is None


@pytest.mark.parametrize(
    ("bind", "address"),
    [("127.0.0.1", "http://127.0.0.1:8000"), ("0.0.0.0", "http://127.0.0.1:8000"), ("::", "http://[::1]:8000")],  # noqa: S104
)
def test_the_address_is_one_that_a_browser_here_can_open(bind: str, address: str) -> None:
    env = Environment(Path("/srv"), bind, 8000, "", True, False, "localhost", "console", 2)
    assert env.address == address


def test_pauses_between_restarts_grow_and_end_at_half_a_minute(tmp_path: Path) -> None:
    child = Child("x", ["x"], {}, tmp_path, started_at=float("inf"))
    pauses = [child.plan_restart() for _ in range(8)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 30
    child.started_at = float("-inf")  # it ran well for a long time
    assert child.plan_restart() == 0.5


def test_the_scheduler_needs_no_application_loaded() -> None:
    """It sends by name, so every entry must name a task that exists."""
    from tradebot.celery import app

    app.loader.import_default_modules()
    assert {entry["task"] for entry in app.conf.beat_schedule.values()} <= set(app.tasks)
    ours = [task for name, task in app.tasks.items() if not name.startswith("celery.")]
    assert all(isinstance(task, ScopedTask) for task in ours)
    assert "daphne" not in settings.INSTALLED_APPS  # it would load Twisted into every process
