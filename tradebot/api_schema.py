"""What the schema generator cannot find out by itself: how a session signs in, and what a strategy's settings are."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from pydantic import BaseModel

__all__ = ["SessionScheme", "SettingsSchema"]

REFERENCE: Final = "#/components/schemas/{model}"


class SessionScheme(OpenApiAuthenticationExtension):
    """The browser's session cookie; changes need its CSRF token too."""

    target_class = "accounts.authentication.ScopedSessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}


class SettingsSchema(OpenApiSerializerFieldExtension):
    """A strategy's settings, as the very model says that checks them: its words are the engine's (F42)."""

    target_class = "bots.serializers.SettingsField"
    match_subclasses = True

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:
        from bots.strategies import STRATEGIES

        kinds = [_described(auto_schema, strategy.settings_model) for strategy in STRATEGIES.values()]
        return kinds[0] if len(kinds) == 1 else {"oneOf": kinds}


def _described(auto_schema: AutoSchema, model: type[BaseModel]) -> dict[str, Any]:
    """Register the model's schema and those it refers to, and return a reference to it."""
    schema = model.model_json_schema(ref_template=REFERENCE)
    for name, part in {**schema.pop("$defs", {}), model.__name__: schema}.items():
        component = ResolvedComponent(name, ResolvedComponent.SCHEMA, part, BaseModel)
        if component not in auto_schema.registry:
            auto_schema.registry.register(component)
    return {"$ref": REFERENCE.format(model=model.__name__)}
