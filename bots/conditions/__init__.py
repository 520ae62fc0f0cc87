"""The rule language of the bots: trees of conditions on indicators, their evaluation and their wording. Pure.

One definition serves the live check and the backtest: each condition becomes an array of states over the closed
candles of its timeframe, computed once per product and shared by everybody who asks; a live check reads its end, a
replay its whole. Nothing here keeps state: what has been judged already is passed in (``since``) and handed back
(``Verdict.evaluated_until``), so looking twice changes nothing (F38).

States follow three-valued logic: a condition without enough history is unknown, its negation too, and a tree that is
unknown in the end is false.

* ``tree``: what a rule is, and what is refused when one is read; ``plan`` is the same as the evaluation walks it.
* ``states``: one condition over the candles of its timeframe.
* ``evaluation``: a tree at the last closed candles, with the numbers behind it; ``arrays``: at every candle.
* ``needs``: the history and the signals that trees ask for.
* ``mirroring``: a tree for the other direction; ``words``: trees for people.
"""

from __future__ import annotations

from bots.conditions.arrays import could_hold, evaluate_array
from bots.conditions.evaluation import CATCH_UP_CANDLES, NO_SIGNAL, Check, Since, Verdict, evaluate, judged_until
from bots.conditions.mirroring import mirror
from bots.conditions.needs import Asked, required_series, required_signals
from bots.conditions.states import State, StateArray, condition_states
from bots.conditions.tree import MAX_CONDITIONS, MAX_DEPTH, Condition, Group, Join, Operator, Tree
from bots.conditions.words import describe, vocabulary

__all__ = [
    "CATCH_UP_CANDLES",
    "MAX_CONDITIONS",
    "MAX_DEPTH",
    "NO_SIGNAL",
    "Asked",
    "Check",
    "Condition",
    "Group",
    "Join",
    "Operator",
    "Since",
    "State",
    "StateArray",
    "Tree",
    "Verdict",
    "condition_states",
    "could_hold",
    "describe",
    "evaluate",
    "evaluate_array",
    "judged_until",
    "mirror",
    "required_series",
    "required_signals",
    "vocabulary",
]
