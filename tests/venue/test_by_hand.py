"""``python -m tests.venue``: the key it prints opens the door, and is the same after a restart when it is kept."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.venue.client import BROKERAGE
from tests.venue.keys import sign

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def started(key_file: Path) -> Iterator[tuple[str, str, str]]:
    """Start it on a free port; yield address, key name and private key, read from what it prints."""
    command = [sys.executable, "-m", "tests.venue", "--port", "0", "--key-file", str(key_file)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        text = ""
        while "Ctrl-C" not in text:
            line = process.stdout.readline()
            assert line, text
            text += line
        found = re.search(r"at (http://\S+) .*API key name:\n(\S+)\n\nPrivate key:\n(-----.*-----\n)", text, re.DOTALL)
        assert found, text
        try:
            yield found.group(1), found.group(2), found.group(3)
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        finally:
            process.kill()  # or it would be waited for without end


@pytest.mark.slow
def test_the_printed_key_works_and_stays(tmp_path: Path) -> None:
    kept = tmp_path / "key.json"
    with started(kept) as (url, name, secret):
        path = f"{BROKERAGE}/accounts"
        token = sign(name, secret, "GET", url.removeprefix("http://"), path)
        answer = requests.get(url + path, headers={"Authorization": f"Bearer {token}"}, timeout=5)
        assert {row["currency"] for row in answer.json()["accounts"]} >= {"USD", "BTC"}
        end = int(time.time())
        query = {"granularity": "FIVE_MINUTE", "start": end - 80_000, "end": end}
        candles = requests.get(f"{url}{BROKERAGE}/market/products/BTC-USD/candles", params=query, timeout=5).json()
        assert len(candles["candles"]) > 250
    assert kept.stat().st_mode & 0o077 == 0
    with started(kept) as (_, again, _):
        assert again == name
