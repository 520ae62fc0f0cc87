"""``manage.py trading_reference``: print the tables of docs/trading.md that follow from the code, or write them there.

A table stands in the document between ``<!-- settings -->`` and ``<!-- end -->``, likewise ``indicators``. A test
compares them, so the document cannot say anything else than the software does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from bots.strategies.dca_settings import DcaSettings
from bots.strategies.forms import FieldSpec, sections
from marketdata.indicators import INDICATORS

__all__ = ["DOCUMENT", "Command", "rewritten"]

DOCUMENT: Final = Path("docs/trading.md")
_PLACE: Final = re.compile(r"(<!-- (settings|indicators) -->\n).*?(<!-- end -->)", re.DOTALL)


class Command(BaseCommand):
    help = "Print the tables of docs/trading.md that follow from the code, or write them there."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--write", action="store_true", help="Write them into the document.")

    def handle(self, *args: Any, **options: Any) -> None:
        path = Path(settings.BASE_DIR) / DOCUMENT
        if options["write"]:
            path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
            self.stdout.write(f"Wrote {DOCUMENT}.")
            return
        for table in _TABLES.values():
            self.stdout.write(table())


def rewritten(text: str) -> str:
    """Return the document with its tables as they follow from the code."""
    return _PLACE.sub(lambda found: f"{found[1]}\n{_TABLES[found[2]]()}\n{found[3]}", text)


def _settings() -> str:
    lines = ["| setting | default | range | what it does |", "| --- | --- | --- | --- |"]
    for section, specs in sections(DcaSettings).items():
        lines.append(f"| **{section}** | | | |")
        lines += [
            _row((f"{spec.label}<br>`{spec.name}`", _default(spec), _range(spec), _effect(spec))) for spec in specs
        ]
    return "\n".join(lines) + "\n"


def _indicators() -> str:
    lines = ["| indicator | value | lines | parameters |", "| --- | --- | --- | --- |"]
    for spec in INDICATORS.values():
        params = ", ".join(f"{param.label} {param.default:g}" for param in spec.params)
        outputs = ", ".join(spec.outputs) if len(spec.outputs) > 1 else ""
        lines.append(_row((f"{spec.label}<br>`{spec.name}`", spec.help, outputs, params)))
    return "\n".join(lines) + "\n"


_TABLES: Final = {"settings": _settings, "indicators": _indicators}


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') or '–' for cell in cells)} |"


def _default(spec: FieldSpec) -> str:
    if spec.kind == "boolean":
        return "on" if spec.default else "off"
    if spec.kind in ("choices", "steps", "conditions") or spec.default is None:
        return "none"
    return f"`{spec.default}`" if spec.choices else f"{spec.default} {spec.unit}".rstrip()


def _range(spec: FieldSpec) -> str:
    if spec.kind == "boolean":
        return "on, off"
    if spec.kind == "conditions":
        return "a rule"
    if spec.kind == "steps":
        parts = "; ".join(f"{part.label.lower()} {_span(part)}" for part in spec.parts)
        return f"up to {spec.max_items}: {parts}"
    words = ", ".join(f"`{choice.value}`" for choice in spec.choices)
    return (f"any of {words}" if spec.kind == "choices" else words) or _span(spec)


def _span(spec: FieldSpec) -> str:
    most = f"{spec.maximum} {spec.unit}".rstrip()
    return f"{spec.minimum} to {most}" if spec.minimum is not None else f"above 0, up to {most}"


def _effect(spec: FieldSpec) -> str:
    return " ".join((spec.help, *_only(spec)))


def _only(spec: FieldSpec) -> Iterator[str]:
    """Yield when the setting has an effect at all, where it has not always."""
    if spec.depends_on:
        needed = (
            (name, "on" if values == ("true",) else " or ".join(values)) for name, values in spec.depends_on.items()
        )
        yield "*Only with " + ", ".join(f"{name} {value}" for name, value in needed) + ".*"
