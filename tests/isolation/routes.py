"""Every address of the project, read from the URL configuration itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.regex_helper import normalize

__all__ = ["Route", "all_routes"]


@dataclass(frozen=True)
class Route:
    """An address with its parameters in braces: ``bots/{pk}/start/``."""

    template: str
    parameters: tuple[str, ...]
    callback: Any

    def filled(self, values: dict[str, Any]) -> str:
        """Return the path with its parameters filled in."""
        return "/" + self.template.format(**values)


def all_routes() -> list[Route]:
    """Return all routes in the order of their addresses; one for each callback where several share an address."""
    found = {(route.template, route.callback): route for route in _walk(get_resolver(), "")}
    return sorted(found.values(), key=lambda route: route.template)


def _walk(resolver: URLResolver, before: str) -> Iterator[Route]:
    for entry in resolver.url_patterns:
        regex = before + str(entry.pattern.regex.pattern).lstrip("^").replace(r"\A", "")
        if isinstance(entry, URLResolver):
            yield from _walk(entry, regex.removesuffix(r"\Z").removesuffix("$"))
        elif isinstance(entry, URLPattern):
            template, parameters = normalize(regex)[0]
            yield Route(_braced(template, parameters), tuple(parameters), entry.callback)


def _braced(template: str, parameters: list[str]) -> str:
    for name in parameters:
        template = template.replace(f"%({name})s", f"{{{name}}}")
    return template.replace("%%", "%")
