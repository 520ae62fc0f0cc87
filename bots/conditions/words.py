"""Trees in words, and the words that trees are made of."""

from __future__ import annotations

from typing import Any

from bots.conditions.tree import Condition, Group, Join, Operator, Tree
from marketdata.indicators import INDICATORS
from marketdata.timeframes import Timeframe


def describe(tree: Tree) -> str:
    """Return the tree in words; an empty text for an empty tree."""
    return f" {tree.join} ".join(_described(item) for item in tree.items)


def _described(node: Condition | Group) -> str:
    if isinstance(node, Condition):
        return node.label
    inner = f" {node.join} ".join(_described(item) for item in node.items) or "never"
    return f"not ({inner})" if node.negate else f"({inner})"


def vocabulary() -> dict[str, Any]:
    """Return what a form or an API description offers: indicators with parameters, operators, timeframes (F42)."""
    return {
        "indicators": [
            {
                "name": spec.name,
                "label": spec.label,
                "help": spec.help,
                "unit": str(spec.unit),
                "outputs": list(spec.outputs),
                "params": [
                    {
                        "name": param.name,
                        "label": param.label,
                        "default": param.default,
                        "minimum": param.minimum,
                        "maximum": param.maximum,
                        "whole": param.whole,
                    }
                    for param in spec.params
                ],
            }
            for spec in INDICATORS.values()
        ],
        "operators": [
            {"name": str(operator), "label": operator.words, "value_required": not operator.is_change}
            for operator in Operator
        ],
        "joins": [str(join) for join in Join],
        "timeframes": [str(timeframe) for timeframe in Timeframe],
    }
