"""A task that a worker is given in tests besides its own: it writes down how an account's orders stand."""

from __future__ import annotations

import json
from pathlib import Path

from celery import shared_task

__all__ = ["look"]


@shared_task
def look(account_id: int, path: str) -> None:
    """Write the account's orders as ``[client id, status, filled base, number of fills]`` rows to ``path``."""
    from positions.models import Order
    from tradebot.core.scoping import acting_for_account

    with acting_for_account(account_id):
        rows = [
            [str(order.client_order_id), order.status, str(order.filled_base), order.fills.count()]
            for order in Order.objects.order_by("pk")
        ]
    unfinished = Path(path).with_suffix(".part")
    unfinished.write_text(json.dumps(rows))
    unfinished.rename(path)
