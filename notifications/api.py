"""What happened to the signed-in person's accounts, and the ticket that opens a socket without a session cookie."""

from __future__ import annotations

from typing import Any

from django import forms
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from notifications import tickets
from notifications.models import Event
from notifications.outbox import visible_events
from notifications.serializers import EventSerializer, SocketTicketSerializer

__all__ = ["EventViewSet", "SocketTicketView"]


class IdFilter(filters.Filter):
    """A whole number. The usual number filter compares decimals with a float, which money's context refuses."""

    field_class = forms.IntegerField


class EventFilter(filters.FilterSet):
    """Events of one kind, and those after a known one."""

    after = IdFilter(field_name="id", lookup_expr="gt", min_value=0, max_value=2**63 - 1)

    class Meta:
        model = Event
        fields = ["kind"]


class EventViewSet(viewsets.ReadOnlyModelViewSet):
    """Events of the signed-in person, oldest first. They are kept for some days."""

    queryset = Event.objects.all()
    serializer_class = EventSerializer
    filterset_class = EventFilter
    ordering_fields = ["id"]

    def get_queryset(self) -> Any:
        return visible_events()


class SocketTicketView(APIView):
    """One-time tickets for sockets."""

    @extend_schema(request=None, responses={201: SocketTicketSerializer})
    def post(self, request: Request) -> Response:
        """Issue a ticket. It opens one socket within its short life and ends with the session or token it came from."""
        token: Any = request.auth  # a session leaves it empty
        if token is not None:
            proof = tickets.Proof.of_token(request.user, token.digest)
        else:
            proof = tickets.Proof.of_session(request.user, request.session.session_key)
        body = {"ticket": tickets.issue(proof), "expires_in": tickets.TICKET_SECONDS}
        return Response(SocketTicketSerializer(body).data, status=status.HTTP_201_CREATED)
