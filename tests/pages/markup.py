"""Reading pages as a browser with our content security policy would."""

from __future__ import annotations

from html.parser import HTMLParser

from django.http import HttpResponse


class _Offences(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if tag == "style" or "style" in names:
            self.found.append(f"style on <{tag}>")
        if tag == "script" and "src" not in names and names.get("type") != "application/json":
            self.found.append("a script inside the page")
        self.found += [f"{name} on <{tag}>" for name in names if name.startswith("on")]
        self.found += [
            f"{value} leads elsewhere" for value in (names.get("src"),) if value and value.startswith("http")
        ]


def offences(response: HttpResponse) -> list[str]:
    """Return what the policy would refuse in the page."""
    reader = _Offences()
    reader.feed(text(response))
    return reader.found


def text(response: HttpResponse) -> str:
    return response.content.decode()
