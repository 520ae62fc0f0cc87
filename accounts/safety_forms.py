"""Forms for keys, arming and limits. Keys only go in: no form draws what was typed, not even after an error."""

from __future__ import annotations

from typing import Any

from django import forms

from accounts.exchanges.connectable import Connectable
from accounts.forms import AmountField
from accounts.models import Account, TradingLimits
from accounts.trading import CURRENCIES, MOST_DEALS

__all__ = ["ArmForm", "ConnectForm", "KeysForm", "LimitsForm", "code_field"]

_UNSEEN = {
    "autocomplete": "off",
    "autocapitalize": "none",
    "autocorrect": "off",
    "spellcheck": "false",
    "data-1p-ignore": "",
    "data-lpignore": "true",
}


class UnseenInput(forms.PasswordInput):
    """A line that is never drawn with its value, and that browsers neither show nor keep."""

    def __init__(self) -> None:
        super().__init__(attrs={**_UNSEEN, "autocomplete": "new-password"}, render_value=False)


class UnseenText(forms.Textarea):
    """Several lines that are never drawn with their value: private keys have line ends, which must survive pasting."""

    def __init__(self, rows: int) -> None:
        super().__init__(attrs={**_UNSEEN, "rows": rows, "class": "key-text"})

    def format_value(self, value: Any) -> str:
        return ""


def code_field() -> forms.CharField:
    """Return the field for the second factor's code. Who has a security key only confirms with that instead."""
    return forms.CharField(
        label="Code of your authenticator app",
        required=False,
        max_length=40,
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "inputmode": "numeric", "class": "code-input", "size": 10}
        ),
        help_text="Six digits, or a recovery code. Each code counts once.",
    )


class KeysForm(forms.Form):
    """The parts of an exchange's keys, as that exchange calls them."""

    api_key = forms.CharField(widget=UnseenInput, strip=False)
    api_secret = forms.CharField(widget=UnseenInput, strip=False)
    passphrase = forms.CharField(widget=UnseenInput, strip=False)
    accept_withdrawal = forms.BooleanField(
        required=False, label="The key may withdraw, and I want to connect it all the same"
    )
    code = code_field()

    def __init__(
        self, *args: Any, venue: Connectable, asks_code: bool = True, takes_codes: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.venue = venue
        self.fields["code"].required = takes_codes
        described = {field.name: field for field in venue.key_fields}
        for name in ("api_key", "api_secret", "passphrase"):
            if name not in described:
                del self.fields[name]
                continue
            self.fields[name].label = described[name].label
            self.fields[name].help_text = described[name].help
            if described[name].lines > 1:
                self.fields[name].widget = UnseenText(described[name].lines)
        if not asks_code:
            del self.fields["code"]
        self.warns = self.is_bound and "accept_withdrawal" in self.data

    def show_warning(self) -> None:
        """Draw the box that says that a key with the right to withdraw is wanted: the venue has just said it has it."""
        self.warns = True

    @property
    def keys(self) -> tuple[str, str, str]:
        """Return what was typed, as it was typed."""
        found = self.cleaned_data
        return found.get("api_key", ""), found.get("api_secret", ""), found.get("passphrase", "")


class ConnectForm(KeysForm):
    """An exchange account: its name here, and its keys."""

    name = forms.CharField(max_length=60, help_text="What you call it here, for example Coinbase main.")
    field_order = ("name", "api_key", "api_secret", "passphrase", "accept_withdrawal", "code")


class ArmForm(forms.Form):
    """Let an account trade: its name typed, and a code where money is real."""

    name = forms.CharField(
        label="Type the account's name", max_length=60, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    code = code_field()

    def __init__(self, *args: Any, account: Account, takes_codes: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].required = takes_codes
        if account.is_paper:
            del self.fields["code"]


class LimitsForm(forms.ModelForm):
    """The most that one order, a day's loss and the open deals may come to. An empty field is no limit."""

    largest_order = AmountField(label="Largest order", required=False)
    largest_order_pct = AmountField(label="or of the account", required=False)
    daily_loss = AmountField(label="Loss in a day", required=False)
    daily_loss_pct = AmountField(label="or of the account", required=False)
    max_open_deals = forms.IntegerField(
        label="Open deals",
        required=False,
        min_value=1,
        max_value=MOST_DEALS,
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"}),
    )
    currency = forms.ChoiceField(label="Amounts are in", choices=[(name, name) for name in CURRENCIES])
    code = code_field()

    class Meta:
        model = TradingLimits
        fields = ["largest_order", "largest_order_pct", "daily_loss", "daily_loss_pct", "max_open_deals", "currency"]

    def __init__(self, *args: Any, account: Account, asks_code: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if account.is_paper or not asks_code:
            del self.fields["code"]

    def _post_clean(self) -> None:
        """The service writes the row; the form only reads what was typed."""

    @property
    def limits(self) -> dict[str, Any]:
        """Return what was typed."""
        return {name: self.cleaned_data[name] for name in self.Meta.fields}
