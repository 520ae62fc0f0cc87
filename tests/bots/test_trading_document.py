"""docs/trading.md says what the software does: its tables are generated, and it leaves no setting or reason out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings

from bots.conditions import Operator
from bots.management.commands.trading_reference import DOCUMENT, rewritten
from bots.strategies.base import ReasonCode
from bots.strategies.dca_presets import PRESETS
from bots.strategies.dca_settings import DcaSettings
from marketdata.indicators import INDICATORS
from positions.states import ExitReason


@pytest.fixture(scope="module")
def text() -> str:
    return (Path(settings.BASE_DIR) / DOCUMENT).read_text(encoding="utf-8")


def test_the_tables_are_those_that_follow_from_the_code(text: str) -> None:
    assert text == rewritten(text), "run manage.py trading_reference --write"


def test_f46_every_setting_is_described_with_its_default_and_range(text: str) -> None:
    rows = dict(re.findall(r"^\| [^|]*<br>`(\w+)` \| (.*) \|$", text, re.MULTILINE))
    assert set(DcaSettings.model_fields) <= set(rows)
    for name in DcaSettings.model_fields:
        assert len(rows[name].split(" | ")) == 3, name


def test_f42_every_indicator_operator_and_reason_is_named(text: str) -> None:
    for word in (*INDICATORS, *ReasonCode, *ExitReason):
        assert f"`{word}`" in text, word
    for operator in Operator:
        assert operator.words in text, operator
    for preset in PRESETS:
        assert not preset.listed or f"*{preset.label}*" in text
