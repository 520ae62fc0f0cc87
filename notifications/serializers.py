"""Events and tickets as the API shows them."""

from __future__ import annotations

from rest_framework import serializers

from notifications.models import Event
from tradebot.core.api import ModelSerializer

__all__ = ["EventSerializer", "SocketTicketSerializer"]


class EventSerializer(ModelSerializer):
    class Meta:
        model = Event
        fields = ["id", "kind", "account", "payload", "at"]
        read_only_fields = fields


class SocketTicketSerializer(serializers.Serializer):
    ticket = serializers.CharField(
        help_text="Send it as the first message: {type: ticket, ticket: …}. Opens one socket."
    )
    expires_in = serializers.IntegerField(help_text="Seconds.")
