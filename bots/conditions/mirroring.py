"""A tree for the other direction."""

from __future__ import annotations

from typing import Any, Final

from bots.conditions.tree import Condition, Group, Operator, Tree
from marketdata.indicators import Mirroring

_MIRRORED: Final = {
    Operator.GT: Operator.LT,
    Operator.GTE: Operator.LTE,
    Operator.LT: Operator.GT,
    Operator.LTE: Operator.GTE,
    Operator.EQ: Operator.EQ,
    Operator.NEQ: Operator.NEQ,
    Operator.CROSSES_ABOVE: Operator.CROSSES_BELOW,
    Operator.CROSSES_BELOW: Operator.CROSSES_ABOVE,
    Operator.INCREASING: Operator.DECREASING,
    Operator.DECREASING: Operator.INCREASING,
}


def mirror(tree: Tree) -> Tree:
    """Return the tree for the other direction: above and below swap, values turn over (RSI 30 becomes 70).

    A buy signal becomes a sell signal. What has no other side stays as it is: volumes, the true range, gaps and
    patterns mean the same for a short.
    """
    return Tree(join=tree.join, items=tuple(_mirrored(item) for item in tree.items))


def _mirrored(node: Condition | Group) -> Condition | Group:
    if isinstance(node, Group):
        return Group(join=node.join, negate=node.negate, items=tuple(_mirrored(item) for item in node.items))
    mirroring = node.spec.mirroring
    if mirroring is Mirroring.NONE:
        return node
    if mirroring is Mirroring.OPPOSITE:
        output = node.spec.opposite_outputs.get(node.output or "", node.output)
        return _turned(node, indicator=node.spec.opposite, output=output)
    value = node.value
    if value is not None and not node.operator.is_change:
        # 0 - value: a mirrored 0 stays 0, not -0.
        value = (100.0 if mirroring is Mirroring.FROM_HUNDRED else 0.0) - value
    return _turned(node, operator=_MIRRORED[node.operator], value=value)


def _turned(node: Condition, **changes: Any) -> Condition:
    """Return the condition with changes; made anew, as a copy would keep its key and label."""
    fields = {name: getattr(node, name) for name in Condition.model_fields}
    return Condition(**(fields | changes))
