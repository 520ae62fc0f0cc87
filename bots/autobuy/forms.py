"""Forms of the auto-buy section. They read what was typed; the services decide."""

from __future__ import annotations

from typing import Any

from django import forms

from accounts.forms import AmountField
from accounts.models import AutoBuyRule
from positions.states import OrderType

__all__ = ["RemoveForm", "RuleForm"]


class RuleForm(forms.ModelForm):
    """One rule: which stable currency is spent on which coin, and how."""

    enabled = forms.BooleanField(label="Buy by itself", required=False)
    currency = forms.CharField(
        label="Spend",
        max_length=20,
        widget=forms.TextInput(attrs={"list": "stable-currencies", "autocomplete": "off"}),
        help_text="A stable currency, such as USD.",
    )
    coin = forms.CharField(label="on", max_length=20, widget=forms.TextInput(attrs={"autocomplete": "off"}))
    minimum = AmountField(label="from", help_text="Less than that is left alone.")
    order_type = forms.ChoiceField(
        label="as",
        choices=[(OrderType.MARKET.value, "market order"), (OrderType.LIMIT.value, "limit order below the bid")],
    )
    limit_offset_pct = AmountField(label="Below the bid", min_value=0, help_text="Of limit orders.")

    class Meta:
        model = AutoBuyRule
        fields = ["enabled", "currency", "coin", "minimum", "order_type", "limit_offset_pct"]

    def _post_clean(self) -> None:
        """Leave the row alone: the service checks and writes."""

    def changes(self) -> dict[str, Any]:
        """Return what was typed, without the currency that names the rule."""
        return {name: value for name, value in self.cleaned_data.items() if name != "currency"}


class RemoveForm(forms.Form):
    """Which rule to take away."""

    currency = forms.CharField(max_length=20)
