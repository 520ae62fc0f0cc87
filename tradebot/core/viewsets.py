"""What API views of owned rows stand on: the rows one may see, and who may change them.

What a person may not see is 404, as if it did not exist (F52). What they see but may not change (an observer on a
shared account) is 403. Apart from ``tradebot.core.api``, which the framework loads before it has views.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django_filters import rest_framework as filters
from rest_framework import permissions, serializers, viewsets
from rest_framework.request import Request

from tradebot.core.api import Serializer
from tradebot.core.once_api import Repeatable

__all__ = ["IdFilter", "MayChange", "NoFields", "OwnedViewSet", "validated"]


class NoFields(Serializer):
    """The body of an action that takes none."""


class MayChange(permissions.BasePermission):
    """Lets through reads of what was found, and changes of what the scope may change."""

    message = "You may look at this, but not change it."

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        if request.method in permissions.SAFE_METHODS:
            return True
        return bool(type(obj).objects.editable().filter(pk=obj.pk).exists())


class OwnedViewSet(Repeatable, viewsets.GenericViewSet):
    """Views of owned rows: those of ``queryset`` are the scope's by construction, so there is no filter to forget."""

    permission_classes = [permissions.IsAuthenticated, MayChange]
    lookup_value_regex = "[0-9]+"

    def filter_queryset(self, queryset: Any) -> Any:
        """Filter lists only: an action on one row reads the query's words in its own way."""
        return super().filter_queryset(queryset) if self.action == "list" else queryset


class IdFilter(filters.Filter):
    """Rows by an id, such as their parent's. An id outside the scope is like one that does not exist: no rows.

    In place of ``NumberFilter``, whose bound is a float and cannot be compared with an amount.
    """

    field_class = forms.IntegerField

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, min_value=0, max_value=2**63 - 1, **kwargs)


def validated(serializer: type[serializers.Serializer[Any]], request: Request, **kwargs: Any) -> dict[str, Any]:
    """Return the request's body as ``serializer`` reads it. Raises ValidationError naming the field at fault."""
    checked = serializer(data=request.data, **kwargs)
    checked.is_valid(raise_exception=True)
    return dict(checked.validated_data)
