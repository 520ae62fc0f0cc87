"""The named steps of the order protocol at which a process can be killed, and the hooks that do it.

Production code knows nothing of this: the functions are wrapped in the one process that is to die. ``arm`` is called
in it before it works; the ``nth`` time that the process comes to the step it ends by ``kill -9``, which no ``finally``
and no transaction survives.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

STEPS: Final = {
    "before intend commit": "the order is written, its transaction is not committed",
    "after intend commit": "the order is intended and nobody has sent it",
    "before send": "the order is marked as submitted and the venue has not heard of it",
    "after send, before answer": "the request is on its way, whatever becomes of it",
    "after answer, before commit": "the venue has answered and nothing of it is written",
    "during apply": "fills are written, their transaction is not committed",
    "after commit, before notify": "fills are booked and nobody has been told",
    "before cancel": "a cancel is noted and the venue has not heard of it",
    "after cancel's answer": "the venue has cancelled, and raced fills are not written",
}


def arm(step: str, nth: int, note: Callable[[str], None]) -> None:
    """Let this process die the ``nth`` time that it comes to ``step``; ``note`` is called right before."""
    left = nth

    def maybe_die() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            note(step)
            os.kill(os.getpid(), signal.SIGKILL)

    _HOOKS[step](maybe_die)


def _before(owner: Any, name: str, act: Callable[..., None]) -> None:
    """Let ``act`` run, with the arguments, before each call of ``owner.name``."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        act(*args, **kwargs)
        return original(*args, **kwargs)

    _put(original, wrapped, name)


def _after(owner: Any, name: str, act: Callable[..., None]) -> None:
    """The same after it has returned."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        act(result)
        return result

    _put(original, wrapped, name)


def _put(original: Any, wrapped: Any, name: str) -> None:
    """Put a function in place of another one in every module of ours that holds it under its name."""
    for module in list(sys.modules.values()):
        if (
            module.__name__.startswith(("positions", "notifications", "bots"))
            and getattr(module, name, None) is original
        ):
            setattr(module, name, wrapped)


def _before_intend_commit(die: Callable[[], None]) -> None:
    from positions.intents import writing

    _after(writing, "_insert", lambda _: die())


def _after_intend_commit(die: Callable[[], None]) -> None:
    from positions import execution

    def when_intended(order: Any, *_: Any, **__: Any) -> None:
        if order.status == "intended":
            die()

    _before(execution, "submit", when_intended)


def _before_send(die: Callable[[], None]) -> None:
    from positions import execution

    _before(execution, "send", lambda *_, **__: die())


def _after_send(die: Callable[[], None]) -> None:
    """The bytes have left, the answer is not read: below every library that a venue may use."""
    from urllib3.connection import HTTPConnection

    putrequest, getresponse = HTTPConnection.putrequest, HTTPConnection.getresponse

    def remembering(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        self.chaos_creates_order = method == "POST" and url.split("?")[0].endswith(("/orders", "/order"))
        return putrequest(self, method, url, *args, **kwargs)

    def dying(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(self, "chaos_creates_order", False):
            die()
        return getresponse(self, *args, **kwargs)

    HTTPConnection.putrequest = remembering  # type: ignore[method-assign]
    HTTPConnection.getresponse = dying  # type: ignore[method-assign]


def _after_answer(die: Callable[[], None]) -> None:
    from positions import execution

    _before(execution, "apply_report", lambda *_, **__: die())


def _during_apply(die: Callable[[], None]) -> None:
    from positions import booking

    _after(booking, "_book", lambda fills: die() if fills else None)


def _before_notify(die: Callable[[], None]) -> None:
    from notifications import outbox

    def when_fill(messages: list[Any]) -> None:
        if any(message.get("kind") == "order_fill" for _, message in messages):
            die()

    _before(outbox, "_send", when_fill)


def _before_cancel(die: Callable[[], None]) -> None:
    from positions import execution

    _before(execution, "_cancel_at", lambda *_, **__: die())


def _after_cancel(die: Callable[[], None]) -> None:
    from positions import execution

    _after(execution, "_cancel_at", lambda _: die())


_HOOKS: Final[dict[str, Callable[[Callable[[], None]], None]]] = {
    "before intend commit": _before_intend_commit,
    "after intend commit": _after_intend_commit,
    "before send": _before_send,
    "after send, before answer": _after_send,
    "after answer, before commit": _after_answer,
    "during apply": _during_apply,
    "after commit, before notify": _before_notify,
    "before cancel": _before_cancel,
    "after cancel's answer": _after_cancel,
}
