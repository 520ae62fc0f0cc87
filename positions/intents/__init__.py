"""Writing down an order before the venue hears of it. Nothing here sends anything.

Both :func:`intend_open` and :func:`intend` (in ``writing``) do, in one transaction:

1. Lock the account's row: counts and balances cannot change under us (F10).
2. Re-check what the caller decided on (``checks``): deal slots and the pause switch for opens, the deal's state, and
   that the caller has seen every earlier order of this purpose (``Intent.sequence``), so a decision is acted on once
   (F1, F3).
3. Bring sizes and prices to the product's steps (``sizes``): sizes down, buy prices down, sell prices up (F24). An exit
   never exceeds what the deal holds nor what the wallet has (F25); a remainder too small to trade closes as dust (F29).
4. Refuse what is below the venue's minimums, with the numbers (F27).
5. Check the free balance less what orders have taken that it may not show yet, and less what open deals need
   (``means``, :mod:`positions.reserves`). Unknown is not zero and not enough: entries are refused (F34). Exits go
   ahead, the venue has the last word. No venue is asked here, under the lock: what an exchange holds was asked for
   before (``accounts.balances.refresh``) and read from rows.
6. Ask whether the account may place it at all (:mod:`positions.admission`).
7. Insert the order, status ``intended``, with its hold. Uniqueness constraints stand behind step 2.

The client id derives from the deal's uid, the purpose and the sequence (``intent``), so it is unique by construction
(F9), and the same intent has the same id wherever it is made.
"""

from __future__ import annotations

from positions.intents.intent import Intent, PerpsOpening, client_order_id, next_sequence
from positions.intents.means import free_balance, unclaimed
from positions.intents.writing import intend, intend_open

__all__ = [
    "Intent",
    "PerpsOpening",
    "client_order_id",
    "free_balance",
    "intend",
    "intend_open",
    "next_sequence",
    "unclaimed",
]
