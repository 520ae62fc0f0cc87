"""Forms of the account and settings pages. They read what was typed; the services decide."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import available_timezones

from django import forms

from accounts.models import Membership, PaperTerms, User
from marketdata import sources
from tradebot.core import clock
from tradebot.core.decimals import plain
from tradebot.core.errors import InvalidInput

__all__ = [
    "MoneyForm",
    "NewAccountForm",
    "ProfileForm",
    "RenameForm",
    "ResetForm",
    "ShareForm",
    "TermsForm",
    "TokenForm",
    "blame",
]

MARKETS = [
    (sources.COINBASE, "Coinbase: real public prices, pretend money"),
    (sources.SIMULATED, "Simulated: made-up prices that work without a connection"),
]


def blame(form: forms.BaseForm, error: InvalidInput) -> None:
    """Show a service's refusal at the field that it names, or above the form."""
    form.add_error(error.field if error.field in form.fields else None, error.message)


class AmountInput(forms.TextInput):
    """A text field for numbers: phones show digits, and nothing rounds or rewrites what was typed."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(attrs={"inputmode": "decimal", "autocomplete": "off", **attrs})


class AmountField(forms.DecimalField):
    """An amount above zero, with up to 20 digits before and 18 after the point; spaces between thousands are fine."""

    widget = AmountInput

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_digits=38, decimal_places=18, **kwargs)

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str):
            value = "".join(value.split())
        return super().to_python(value)

    def prepare_value(self, value: Any) -> Any:
        return plain(value) if isinstance(value, Decimal) else value


class NewAccountForm(forms.Form):
    """A paper account: its name and the market whose prices it trades at."""

    name = forms.CharField(max_length=60, help_text="What you call it, for example Practice.")
    exchange = forms.ChoiceField(
        label="Market", choices=MARKETS, help_text="An account stays on its market for good, so that its deals do."
    )


class MoneyForm(forms.Form):
    """So much of a currency, to put in or take out."""

    currency = forms.CharField(
        max_length=20, widget=forms.TextInput(attrs={"list": "currencies", "autocomplete": "off"})
    )
    amount = AmountField()

    def clean_currency(self) -> str:
        return str(self.cleaned_data["currency"]).strip().upper()


class ResetForm(forms.Form):
    """Start a paper account over. The name is typed, so that it does not happen by a slip."""

    name = forms.CharField(
        label="Type the account's name", max_length=60, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )

    def __init__(self, *args: Any, expected: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = expected

    def clean_name(self) -> str:
        typed = str(self.cleaned_data["name"])
        if typed.strip() != self.expected:
            raise forms.ValidationError(f"This is not the account's name. Type {self.expected} to reset it.")
        return typed


class TermsForm(forms.ModelForm):
    """What trading on a paper account costs."""

    maker_fee_pct = AmountField(label="Maker fee")
    taker_fee_pct = AmountField(label="Taker fee")
    slippage_pct = AmountField(label="Slippage of market orders")

    class Meta:
        model = PaperTerms
        fields = ["maker_fee_pct", "taker_fee_pct", "slippage_pct", "fee_currency"]
        labels = {"fee_currency": "Fees are taken in"}


class RenameForm(forms.Form):
    name = forms.CharField(max_length=60)


class ShareForm(forms.Form):
    """Whom to let in, and how far."""

    email = forms.EmailField(label="E-mail address")
    role = forms.ChoiceField(
        choices=[(Membership.Role.OBSERVER, "Observer: may look"), (Membership.Role.MANAGER, "Manager: may trade")]
    )


class TokenForm(forms.Form):
    """What a new API token is for, and how long it is good."""

    name = forms.CharField(label="What it is for", max_length=60, required=False)
    days = forms.TypedChoiceField(
        label="Valid",
        choices=[("", "until revoked"), ("30", "30 days"), ("90", "90 days"), ("365", "a year")],
        coerce=int,
        empty_value=None,
        required=False,
    )

    def expires_at(self) -> datetime | None:
        days: int | None = self.cleaned_data["days"]
        return None if days is None else clock.now() + timedelta(days=days)


def _zones() -> list[tuple[str, str]]:
    return [(name, name.replace("_", " ")) for name in sorted(available_timezones())]


class ProfileForm(forms.ModelForm):
    """How the pages look and which zone their times are in."""

    timezone = forms.ChoiceField(
        label="Time zone", choices=_zones, help_text="All times on the pages are in this zone."
    )
    theme = forms.ChoiceField(choices=[(theme.value, theme.label.capitalize()) for theme in User.Theme])

    class Meta:
        model = User
        fields = ["timezone", "theme"]
