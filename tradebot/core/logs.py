"""Logging for people (console) or machines (JSON) by structlog.

Secrets are ``Secret`` objects, which say nothing. Libraries know nothing of that: an exception of theirs may carry the
address, headers and signature of a request, so whatever is about to be written passes :func:`redact` as a whole,
traceback included, and values that go by the name of a secret are taken out before.
"""

from __future__ import annotations

import logging
from typing import Any

import structlog

from tradebot.core.redaction import REDACTED, is_secret_name, redact

__all__ = ["RedactingFormatter", "logging_config", "without_secrets"]


def without_secrets(logger: Any, method: str, event: Any) -> Any:
    """Take out values that go by a secret's name, at any depth."""
    return {name: _cleared(name, value) for name, value in event.items()}


def _cleared(name: Any, value: Any) -> Any:
    if isinstance(name, str) and is_secret_name(name) and value is not None:
        return REDACTED
    if isinstance(value, dict):
        return {inner: _cleared(inner, found) for inner, found in value.items()}
    if isinstance(value, list | tuple):
        return [_cleared("", found) for found in value]
    return value


class RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """Writes records of structlog and of every other library, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or the lines of a traceback, that are written."""
        return redact(super().format(record))


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.stdlib.PositionalArgumentsFormatter(),
    without_secrets,
]


PROBES = ("GET /healthz", "GET /readyz", "GET /metrics")


def _without_probes(logger: Any, method: str, event: Any) -> Any:
    """Drop the request lines of health probes: they come every few seconds, and red ones at the level of errors."""
    if str(event.get("request", "")).startswith(PROBES):
        raise structlog.DropEvent
    return event


def logging_config(log_format: str, level: str) -> dict[str, Any]:
    """Return the LOGGING dict; ``log_format`` is "console" or "json". Raises ValueError for another one."""
    if log_format not in {"console", "json"}:
        raise ValueError(f"LOG_FORMAT is console or json, not {log_format!r}")
    structlog.configure(
        processors=[
            _without_probes,
            *_SHARED,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ]
        if log_format == "json"
        else [_without_probes, *_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=False,
            pad_event_to=28,
            exception_formatter=structlog.dev.plain_traceback,  # the default prints local variables, secrets too
        )
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "main": {
                "()": RedactingFormatter,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
                "foreign_pre_chain": _SHARED,
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "main"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # Django brings handlers of its own, whose lines would go past our formatter.
            "django": {"handlers": [], "level": "INFO", "propagate": True},
            "django.server": {"handlers": [], "level": "INFO", "propagate": True},
            "daphne": {"level": "WARNING"},
            "django_structlog": {"level": "WARNING"},
            "celery": {"level": "WARNING"},
            "kombu": {"level": "WARNING"},
            "urllib3": {"level": "WARNING"},
        },
    }
