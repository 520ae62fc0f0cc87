"""The form of a sale or conversion. It reads what was typed; the service decides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms

from accounts.forms import AmountField
from positions.forms import ActionForm

__all__ = ["ExchangeForm"]


class ExchangeForm(ActionForm):
    """How much of a currency to turn into which other one, of those that the market offers; no amount is all."""

    amount = AmountField(required=False, label="How much", help_text="Empty: all that is free.")
    into = forms.ChoiceField(label="Into")

    def __init__(self, *args: Any, targets: Iterable[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        into: Any = self.fields["into"]
        into.choices = list(targets)
