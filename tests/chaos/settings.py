"""Settings of the processes that chaos starts and kills: production's, with caches and sockets of the process's own.

The truth is in the database and at the venue; what a cache held is lost with the process, as after a restart.
"""

from __future__ import annotations

from tradebot.settings import *  # noqa: F403 (all of them, with these changed)

CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
