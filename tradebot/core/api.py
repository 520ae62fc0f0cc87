"""What the API framework is set to: amounts as strings, strict bodies, paging, errors as {code, detail, field}.

Views of owned rows stand on ``tradebot.core.viewsets``; numbers are read exactly by ``tradebot.core.parsers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError as DjangoValidationError
from django.http import Http404
from rest_framework import exceptions, pagination, serializers, status, views
from rest_framework.response import Response

from tradebot.core import errors
from tradebot.core.decimals import plain
from tradebot.core.money import AmountField
from tradebot.core.scoping import ForeignRow

__all__ = ["AmountSerializerField", "ModelSerializer", "Pagination", "Serializer", "exception_handler"]


class AmountSerializerField(serializers.DecimalField):
    """An amount as a plain string, exact; refuses NaN, infinities and more than 20 digits before the point (F23)."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("max_digits", 38)
        kwargs.setdefault("decimal_places", 18)
        super().__init__(**kwargs)

    def to_representation(self, value: Any) -> Any:
        return plain(Decimal(value)) if value is not None else None


class _Strict:
    """Refuses a body with a field that it does not know, by name: a misspelt field is never silently ignored."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            known = {name for name, field in self.fields.items() if not field.read_only}  # type: ignore[attr-defined]
            if unknown := sorted(set(map(str, data)) - known - {"csrfmiddlewaretoken"}):
                words = "It cannot be set." if unknown[0] in self.fields else "There is no such field."  # type: ignore[attr-defined]
                raise exceptions.ValidationError({unknown[0]: exceptions.ErrorDetail(words, code="unknown_field")})
        return super().to_internal_value(data)  # type: ignore[misc]


class Serializer(_Strict, serializers.Serializer):
    """A serializer that refuses unknown fields."""


class ModelSerializer(_Strict, serializers.ModelSerializer):
    """A model serializer that writes amounts as plain strings and refuses unknown fields."""

    serializer_field_mapping = {
        **serializers.ModelSerializer.serializer_field_mapping,
        AmountField: AmountSerializerField,
    }


class Pagination(pagination.PageNumberPagination):
    """Pages of 50, at most 200 by ``page_size``."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200


_STATUS: list[tuple[type[Exception], int]] = [
    (errors.NotFound, status.HTTP_404_NOT_FOUND),
    (errors.InvalidInput, status.HTTP_400_BAD_REQUEST),
    (errors.Conflict, status.HTTP_409_CONFLICT),
    (errors.OrderRefused, status.HTTP_409_CONFLICT),
    (errors.MissingInformation, status.HTTP_409_CONFLICT),
    (errors.VenueUnavailable, status.HTTP_503_SERVICE_UNAVAILABLE),
    (errors.VenueError, status.HTTP_502_BAD_GATEWAY),
]


def _first(detail: Any, field: str = "") -> tuple[str, str, str]:
    """Return (code, sentence, field) of the first error in DRF's nested detail."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            path = "" if name in {"non_field_errors", "detail"} else name
            return _first(inner, f"{field}.{path}".strip("."))
    if isinstance(detail, list) and detail:
        return _first(detail[0], field)
    return getattr(detail, "code", "invalid") or "invalid", str(detail), field


def _body(exc: errors.TradebotError) -> dict[str, Any]:
    """Return the answer to an expected failure: the numbers behind it, and all fields at fault."""
    detail = dict(exc.detail)
    found = detail.pop("errors", None)
    body: dict[str, Any] = {"code": exc.code, "detail": exc.message, "field": exc.field}
    if detail:
        body["numbers"] = {
            name: plain(value) if isinstance(value, Decimal) else str(value) for name, value in detail.items()
        }
    if found:
        body["errors"] = {error["field"]: [error["message"]] for error in found}
    return body


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Turn expected failures into ``{code, detail, field}``; what is not yours is 404, never 403."""
    if isinstance(exc, ForeignRow):
        exc = Http404()
    if isinstance(exc, DjangoValidationError):
        exc = exceptions.ValidationError(detail=exc.message_dict if hasattr(exc, "error_dict") else exc.messages)
    if isinstance(exc, errors.TradebotError):
        code = next((number for kind, number in _STATUS if isinstance(exc, kind)), status.HTTP_400_BAD_REQUEST)
        return Response(_body(exc), status=code)
    response = views.exception_handler(exc, context)
    if response is not None:
        code_text, sentence, field = _first(response.data)
        response.data = {"code": code_text, "detail": sentence, "field": field or None}
        if isinstance(exc, exceptions.ValidationError) and isinstance(exc.detail, dict):
            response.data["errors"] = exc.detail
    return response
