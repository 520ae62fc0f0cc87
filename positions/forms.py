"""What the lists of deals and orders can be narrowed to, and the small forms of a deal page.

Filters come from the address, so anything may be in them: what is not understood is left out, never an error page.
"""

from __future__ import annotations

from typing import Any, Final

from django import forms

from accounts.forms import AmountField
from positions.handling import TimeInForce
from positions.manual import NOTE_LENGTH
from positions.states import ExitReason, OrderStatus, OrderType, Purpose
from tradebot.core.errors import TradebotError
from tradebot.core.words import Category

__all__ = [
    "UNREVIEWED",
    "ActionForm",
    "AddFundsForm",
    "CeilingForm",
    "DealFilter",
    "HistoryFilter",
    "LimitChangeForm",
    "LimitCloseForm",
    "NoteForm",
    "OrderFilter",
    "PartForm",
]

UNREVIEWED: Final = "unreviewed"
"""The category of a coin that nobody has judged, as an address says it."""


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
    """Open deals: by currency, category, what they are like, bot and pair; how to group and sort them."""

    GROUPS: Final = [("currency", "Currency"), ("bot", "Bot"), ("pair", "Pair"), ("none", "None")]
    SORTS: Final = [
        ("needs", "Needs you first"),
        ("target", "Nearest target"),
        ("stop", "Nearest stop"),
        ("newest", "Newest"),
    ]
    SHOWS: Final = [("needs", "Needs you"), ("trailing", "Trailing"), ("short", "Short")]

    quote = forms.CharField(required=False, max_length=20)
    category = forms.ChoiceField(
        required=False, choices=[(UNREVIEWED, UNREVIEWED), *((c.value, c.value) for c in Category)]
    )
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


# What is done to a deal -----------------------------------------------------------------------------------------------


class ActionForm(forms.Form):
    """A form whose service may refuse what the form itself takes."""

    def blame(self, error: TradebotError) -> None:
        """Put what the service said beside the field it speaks of, or above the form."""
        field = error.field if error.field in self.fields else None
        code = "" if field else f" [{error.code}]"
        self.add_error(field, f"{error.message}{code}")


class PartForm(ActionForm):
    """How much of a deal to close: an amount of the base currency, or a share of what is left; neither is all."""

    base = AmountField(required=False)
    share_pct = AmountField(required=False, label="Share")

    @property
    def part(self) -> dict[str, Any]:
        """Return what was asked for, as the services take it."""
        return {name: value for name, value in self.cleaned_data.items() if value is not None}


class _UntilForm(ActionForm):
    time_in_force = forms.ChoiceField(
        label="Waits until",
        choices=[(TimeInForce.GTC.value, "I cancel it"), (TimeInForce.GTD.value, "a time that I choose")],
        required=False,
    )
    expires_at = forms.DateTimeField(
        label="Time",
        required=False,
        help_text="In your time zone. Only for “a time that I choose”.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )

    def clean_time_in_force(self) -> TimeInForce:
        return TimeInForce(self.cleaned_data["time_in_force"] or TimeInForce.GTC)

    def clean(self) -> dict[str, Any]:
        """Leave an end out that was filled in while the order is good till cancelled."""
        found: dict[str, Any] = self.cleaned_data
        if found.get("time_in_force") is TimeInForce.GTC:
            found["expires_at"] = None
        return found


class LimitCloseForm(_UntilForm):
    """A limit close to place."""

    field_order = ["price", "share_pct"]
    price = AmountField()
    share_pct = AmountField(label="How much", initial="100", help_text="Of what is left of the deal.")


class LimitChangeForm(_UntilForm):
    """Another price or another end for the limit close that rests."""

    field_order = ["price"]
    price = AmountField()


class AddFundsForm(ActionForm):
    """An addition to a deal."""

    amount = AmountField()
    order_type = forms.ChoiceField(
        label="Order",
        choices=[(OrderType.MARKET.value, "at market, at once"), (OrderType.LIMIT.value, "limit, waits for its price")],
    )
    price = AmountField(required=False, label="Limit price", help_text="For a limit order.")
    raise_ceiling = forms.BooleanField(required=False, label="Raise the ceiling as far as this needs")

    def clean(self) -> dict[str, Any]:
        """Let a limit order have a price; one beside a market order does not count."""
        found: dict[str, Any] = self.cleaned_data
        is_limit = found.pop("order_type", "") == OrderType.LIMIT
        if not is_limit:
            found["price"] = None
        elif found.get("price") is None and "price" not in self.errors:
            self.add_error("price", "A limit order has a price.")
        return found


class CeilingForm(ActionForm):
    """The most that a deal may spend."""

    budget_quote = AmountField(label="Ceiling")
