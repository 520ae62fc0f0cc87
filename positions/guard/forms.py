"""Forms of the guard's section. They read what was typed; the services decide."""

from __future__ import annotations

from datetime import time
from typing import Any
from zoneinfo import available_timezones

from django import forms

from accounts.forms import AmountField
from accounts.models import PropGuardRules

__all__ = ["LimitsForm", "ReleaseForm", "StopForm"]


def _zones() -> list[tuple[str, str]]:
    return [(name, name.replace("_", " ")) for name in sorted(available_timezones())]


class LimitsForm(forms.ModelForm):
    """The account's limits, and whether they count."""

    enabled = forms.BooleanField(
        label="Guard this account", required=False, help_text="Beyond a limit it is stopped and its deals are closed."
    )
    initial_deposit = AmountField(label="Initial deposit", help_text="The total loss is measured from it.")
    currency = forms.CharField(max_length=20, widget=forms.TextInput(attrs={"autocomplete": "off"}))
    daily_limit_pct = AmountField(label="Daily limit", help_text="Of the equity that the day began with.")
    total_limit_pct = AmountField(label="Total limit", help_text="Of the initial deposit.")
    max_spread_pct = AmountField(label="Widest spread", help_text="Of a pair that is bought.")
    equity_max_age_seconds = forms.IntegerField(
        label="Oldest equity", min_value=5, max_value=300, help_text="Older than that, nothing new is opened."
    )
    day_start = forms.TimeField(label="The day begins at", initial=time(17), widget=forms.TimeInput(format="%H:%M"))
    day_zone = forms.ChoiceField(label="on the clocks of", choices=_zones)

    class Meta:
        model = PropGuardRules
        fields = [
            "enabled",
            "initial_deposit",
            "currency",
            "daily_limit_pct",
            "total_limit_pct",
            "max_spread_pct",
            "equity_max_age_seconds",
            "day_start",
            "day_zone",
        ]

    def _post_clean(self) -> None:
        """Leave the row alone: the service checks and writes."""

    def changes(self) -> dict[str, Any]:
        """Return what was typed as the service takes it."""
        return dict(self.cleaned_data)


class _NamedForm(forms.Form):
    """Something that closes or opens trading: the account's name is typed, so that it does not happen by a slip."""

    confirm = forms.CharField(
        label="Type the account's name", max_length=60, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )

    def __init__(self, *args: Any, expected: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = expected

    def clean_confirm(self) -> str:
        typed = str(self.cleaned_data["confirm"]).strip()
        if typed != self.expected:
            raise forms.ValidationError(f"This is not the account's name. Type {self.expected}.")
        return typed


class StopForm(_NamedForm):
    """Stop the account by hand."""

    note = forms.CharField(label="Why", required=False, max_length=200)


class ReleaseForm(_NamedForm):
    """Release a stopped account."""

    rebase = forms.BooleanField(
        label="The present equity becomes the initial deposit",
        required=False,
        help_text="Needed while the account is below its total limit.",
    )
