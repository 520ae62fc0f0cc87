"""The form of a hook's one setting."""

from __future__ import annotations

from django import forms

from bots.signals.models import LONGEST_LAG, SHORTEST_LAG

__all__ = ["LagForm"]


class LagForm(forms.Form):
    """How late an alert may be."""

    max_lag_seconds = forms.IntegerField(
        label="Latest",
        min_value=SHORTEST_LAG,
        max_value=LONGEST_LAG,
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"}),
        help_text="An alert that says when it was sent is refused when that is longer ago than this.",
    )
