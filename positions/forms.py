"""What the lists of deals and orders can be narrowed to, and the small forms of a deal page.

Filters come from the address, so anything may be in them: what is not understood is left out, never an error page.
"""

from __future__ import annotations

from typing import Any, Final

from django import forms

from positions.manual import NOTE_LENGTH
from positions.states import ExitReason, OrderStatus, Purpose

__all__ = ["DealFilter", "HistoryFilter", "NoteForm", "OrderFilter"]


def _worded(words: Any, first: str) -> list[tuple[str, str]]:
    return [("", first), *((word.value, word.value.replace("_", " ").capitalize()) for word in words)]


class _Filter(forms.Form):
    """A form over the query string. :attr:`found` holds what was understood; fields that were not are empty."""

    q = forms.CharField(required=False, max_length=40, label="Pair")
    bot = forms.IntegerField(required=False, min_value=1, max_value=2**62)

    def __init__(self, data: Any, **kwargs: Any) -> None:
        super().__init__(data, auto_id="f_%s", **kwargs)
        for field in self.fields.values():
            field.widget.attrs.setdefault(
                "class", "form-select w-auto" if hasattr(field, "choices") else "form-control"
            )
        self.fields["q"].widget = forms.TextInput(
            attrs={
                "type": "search",
                "class": "form-control find",
                "placeholder": "Find a pair",
                "aria-label": "Find a pair",
            }
        )
        self.is_valid()
        self.found: dict[str, Any] = {name: self.cleaned_data.get(name) for name in self.fields}

    @property
    def is_narrowed(self) -> bool:
        return any(self.found[name] for name in self.fields if name not in {"group", "sort"})


class DealFilter(_Filter):
    """Open deals: by currency, by what they are like, by bot and pair; how to group and sort them."""

    GROUPS: Final = [("currency", "Currency"), ("bot", "Bot"), ("pair", "Pair"), ("none", "None")]
    SORTS: Final = [
        ("needs", "Needs you first"),
        ("target", "Nearest target"),
        ("stop", "Nearest stop"),
        ("newest", "Newest"),
    ]
    SHOWS: Final = [("needs", "Needs you"), ("trailing", "Trailing"), ("short", "Short")]

    quote = forms.CharField(required=False, max_length=20)
    show = forms.ChoiceField(required=False, choices=[("", "All"), *SHOWS])
    group = forms.ChoiceField(required=False, choices=GROUPS)
    sort = forms.ChoiceField(required=False, choices=SORTS)


class HistoryFilter(_Filter):
    """Ended deals: by bot, pair, reason and days."""

    reason = forms.ChoiceField(required=False, choices=_worded(ExitReason, "Any reason"))
    since = forms.DateField(required=False, widget=forms.DateInput(attrs={"type": "date"}), label="From")
    until = forms.DateField(required=False, widget=forms.DateInput(attrs={"type": "date"}), label="To")


class OrderFilter(_Filter):
    """Orders: by state, purpose, bot and pair."""

    STATES: Final = [
        ("", "Any state"),
        ("working", "Working"),
        ("failed", "Not carried out"),
        *_worded(OrderStatus, "")[1:],
    ]

    state = forms.ChoiceField(required=False, choices=STATES)
    purpose = forms.ChoiceField(required=False, choices=_worded(Purpose, "Any purpose"))


class NoteForm(forms.Form):
    """A note on a deal."""

    notes = forms.CharField(
        required=False,
        max_length=NOTE_LENGTH,
        label="Note",
        widget=forms.Textarea(attrs={"rows": 3, "class": "form-control"}),
    )
