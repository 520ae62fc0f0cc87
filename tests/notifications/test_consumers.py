"""The socket: who gets in, what goes out, in which order, and when it ends."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from django.test import Client
from rest_framework.authtoken.models import Token

from accounts.models import Membership
from notifications import consumers, tickets
from notifications.models import Event
from notifications.outbox import close_sockets, publish, push
from tests.notifications.conftest import ORIGIN, World, cookie_of, socket
from tradebot.asgi import application
from tradebot.core.scoping import all_accounts

pytestmark = pytest.mark.asyncio if False else []
