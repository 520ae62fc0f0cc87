"""The forms of the perpetuals' pages. They read what was typed; the services decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms

from accounts.forms import AmountField
from accounts.models import PerpsSettings
from marketdata.models import Product
from positions.forms import ActionForm
from positions.states import Direction
from tradebot.core.words import MarginMode

__all__ = ["BracketForm", "OpenForm", "PerpsSettingsForm"]

MODES = [
    (MarginMode.ISOLATED.value, "isolated: only its own margin is at stake"),
    (MarginMode.CROSS.value, "cross: the whole account answers for it"),
]


class BracketForm(ActionForm):
    """Take profit and stop of a position; an empty one is none."""

    take_profit = AmountField(required=False, help_text="A limit order that only reduces. Empty: none.")
    stop_loss = AmountField(required=False, label="Stop", help_text="Closes at market when the price gets there.")


class OpenForm(BracketForm):
    """A position to open. The products are those of the account's market; ``most_leverage`` is the highest one that can
    be used, on the product that allows the least and on the one that allows the most."""

    field_order = ["product", "direction", "leverage", "margin_mode", "margin", "limit_price"]
    product = forms.ChoiceField(label="Perpetual")
    direction = forms.ChoiceField(
        choices=[(Direction.LONG.value, "long: earns when it rises"), (Direction.SHORT.value, "short: when it falls")]
    )
    leverage = forms.IntegerField(
        min_value=1, widget=forms.NumberInput(attrs={"inputmode": "numeric", "autocomplete": "off"})
    )
    margin_mode = forms.ChoiceField(label="Margin is", choices=MODES)
    margin = AmountField(help_text="What the position takes of the account, without the fee.")
    limit_price = AmountField(required=False, label="Limit price", help_text="Empty: at market, at once.")

    def __init__(self, *args: Any, products: Sequence[Product], most_leverage: tuple[int, int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        product: Any = self.fields["product"]
        product.choices = [(str(row.pk), row.symbol) for row in products]
        leverage: Any = self.fields["leverage"]
        least, most = most_leverage
        range_of = f"1 to {most}" if least == most else f"1 to {most}, for some no more than {least}"
        leverage.help_text = f"{range_of}. The higher, the nearer the liquidation."
        self.products = {str(row.pk): row for row in products}

    def clean_product(self) -> Product:
        return self.products[self.cleaned_data["product"]]

    def clean_direction(self) -> Direction:
        return Direction(self.cleaned_data["direction"])

    def clean_margin_mode(self) -> MarginMode:
        return MarginMode(self.cleaned_data["margin_mode"])


class PerpsSettingsForm(forms.ModelForm):
    """How an account trades perpetuals."""

    class Meta:
        model = PerpsSettings
        fields = ["enabled", "default_leverage", "max_leverage", "margin_mode"]
        labels = {
            "enabled": "Trade perpetuals on this account",
            "default_leverage": "Leverage to begin with",
            "max_leverage": "Highest leverage",
            "margin_mode": "Margin is",
        }
