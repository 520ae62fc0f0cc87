"""Reads request bodies with exact numbers. Apart from ``tradebot.core.api``, which the framework loads later."""

from __future__ import annotations

import codecs
import json
from decimal import Decimal, InvalidOperation
from typing import Any

from rest_framework import exceptions, parsers
from rest_framework.parsers import get_encoding  # type: ignore[attr-defined]

__all__ = ["JSONParser"]


def _exact(literal: str) -> Decimal | str:
    try:
        return Decimal(literal)
    except InvalidOperation:  # an exponent beyond all bounds
        return literal


class JSONParser(parsers.JSONParser):
    """JSON without floats. ``NaN`` and ``Infinity`` arrive as words, so that their field refuses them by name (F23)."""

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        text = codecs.getreader(get_encoding(parser_context or {}))(stream)
        try:
            return json.load(text, parse_float=_exact, parse_constant=str)
        except (ValueError, RecursionError) as error:
            raise exceptions.ParseError(f"The body is not JSON: {error}") from error
