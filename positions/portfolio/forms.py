"""What the portfolio page can be narrowed to, and its small forms. Unknown words of an address are skipped."""

from __future__ import annotations

from typing import Any, Final

from django import forms

from accounts.forms import AmountField
from positions.portfolio.holdings import DISPLAY

__all__ = ["PortfolioFilter", "TransferForm"]


class PortfolioFilter(forms.Form):
    """What to show, in which order, of which account, in which currency, over how many days."""

    RANGES: Final = (("30", "30 d"), ("90", "90 d"), ("365", "1 y"), ("all", "All"))
    SORTS: Final = (
        ("value", "Most valuable"),
        ("name", "By name"),
        ("free", "Most free"),
        ("untracked", "Most untracked"),
    )
    SHOWS: Final = (("untracked", "Untracked"), ("unpriced", "No price"), ("small", "Below 1 USD"))

    money = forms.ChoiceField(required=False, choices=[("live", "Live"), ("paper", "Paper")])
    currency = forms.ChoiceField(required=False, choices=[(name, name) for name in DISPLAY])
    days = forms.ChoiceField(required=False, choices=RANGES)
    account = forms.IntegerField(required=False, min_value=1, max_value=2**62)
    quote = forms.CharField(required=False, max_length=20)
    show = forms.ChoiceField(required=False, choices=SHOWS)
    sort = forms.ChoiceField(required=False, choices=SORTS)
    q = forms.CharField(required=False, max_length=20)

    def __init__(self, data: Any) -> None:
        super().__init__(data, auto_id="f_%s")
        self.is_valid()
        self.found: dict[str, Any] = {name: self.cleaned_data.get(name) or None for name in self.fields}


class TransferForm(forms.Form):
    """A deposit or withdrawal to enter by hand, at a moment in the reader's own time zone."""

    direction = forms.ChoiceField(choices=[("in", "Came in"), ("out", "Went out")], label="What happened")
    amount = AmountField()
    currency = forms.CharField(max_length=20, widget=forms.TextInput(attrs={"autocomplete": "off"}))
    at = forms.DateTimeField(label="When", widget=forms.DateTimeInput(attrs={"type": "datetime-local"}))
    note = forms.CharField(required=False, max_length=200)

    def clean_amount(self) -> Any:
        amount = self.cleaned_data["amount"]
        if amount <= 0:
            raise forms.ValidationError("An amount is above zero; the choice beside it says which way it went.")
        return amount

    @property
    def signed_amount(self) -> Any:
        """Return the amount with the sign of its direction."""
        amount = self.cleaned_data["amount"]
        return amount if self.cleaned_data["direction"] == "in" else -amount
