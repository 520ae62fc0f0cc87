"""Is it alive, is it working, and what did it count? For supervisors, load balancers and the operator.

All three answer without a sign-in; the counters only where the operator has switched them on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import redis
import structlog
from django.conf import settings
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tradebot.celery import app
from tradebot.core import health
from tradebot.core.models import GlobalSettings

__all__ = ["healthz", "metrics", "readyz"]

log = structlog.get_logger(__name__)
BROKER_TIMEOUT_SECONDS: Final = 2


@require_safe
@never_cache
def healthz(request: HttpRequest) -> JsonResponse:
    """The process answers. Asks nobody else, so a full queue or a slow database does not get it restarted."""
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """Database, broker and every recurring loop. 503 with the reasons when one of them is not well (F71)."""
    checks: dict[str, Callable[[], list[str]]] = {"database": _database, "broker": _broker, "loops": _loops}
    reasons = {name: check() for name, check in checks.items()}
    ready = not any(reasons.values())
    body = {
        "status": "ok" if ready else "not ready",
        "checks": {name: "failed" if found else "ok" for name, found in reasons.items()},
        "reasons": [reason for found in reasons.values() for reason in found],
    }
    response = JsonResponse(body, status=200 if ready else 503)
    response._has_been_logged = True  # type: ignore[attr-defined]  # as Django does: a probe is no error
    return response


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """What this process has counted since it started, as Prometheus reads it. 404 unless settings.METRICS is on."""
    if not settings.METRICS:
        raise Http404
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)


def _database() -> list[str]:
    try:
        GlobalSettings.objects.filter(pk=1).exists()
    except DatabaseError as error:
        log.warning("database does not answer", error=str(error))
        return ["The database does not answer, or is not migrated."]
    return []


def _broker() -> list[str]:
    try:
        with redis.Redis.from_url(
            settings.REDIS, socket_timeout=BROKER_TIMEOUT_SECONDS, socket_connect_timeout=BROKER_TIMEOUT_SECONDS
        ) as broker:
            broker.ping()
    except (redis.RedisError, OSError) as error:
        log.warning("broker does not answer", error=str(error))
        return ["The broker (Valkey or Redis) does not answer."]
    return []


def _loops() -> list[str]:
    app.loader.import_default_modules()  # the modules that define loops enter them in health.LOOPS
    try:
        late = health.stale_loops()
    except DatabaseError:
        return ["The age of the loops is unknown."]
    return [
        f"Loop {name} has never succeeded." if age is None else f"Loop {name} last succeeded {age:.0f} s ago."
        for name, age in late
    ]
