"""Forms that are carried out once: the hidden field, and what a browser that sends one again is shown.

A double click, *back* and *send*, or a refresh lead to the page that the first one led to, with its words and a line
that says so. No error page, and nothing is done twice. Pages that show a secret do not belong here, because answers are
stored.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Final

from django.contrib import messages
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme

from tradebot.core import once
from tradebot.core.errors import InvalidInput
from tradebot.core.once import Busy, Claim, CutOff, Finished, Reused

__all__ = ["FIELD", "acting", "acting_when", "is_acting", "new_key"]

FIELD: Final = "once"
NOT_PART: Final = frozenset({FIELD, "csrfmiddlewaretoken"})
PATIENCE_SECONDS: Final = 8.0
"""So long does a repeat wait for the first one's answer: of a double click the browser shows the second."""
LOOK_SECONDS: Final = 0.1
LARGEST_BODY: Final = 512 * 1024
MAIN: Final = '<main id="main">'
"""Where every page begins (``base.html``)."""
AGAIN: Final = "This had been sent before and was carried out once. What came of it:"
DONE: Final = "This had been sent before and was carried out once."
OTHER: Final = (
    "This form had been sent before, with other values. What you sent now was not done. "
    "Check the values and send again."
)
STILL: Final = "This is being carried out since you sent it first. Look again in a moment."

View = Callable[..., HttpResponseBase]


def new_key() -> str:
    """Return what a form is told apart by. Every form of every page that is shown has its own."""
    return uuid.uuid4().hex


def is_acting(view: Any) -> bool:
    """Return whether the view carries a form out once."""
    return bool(getattr(view, "is_acting", False))


def acting(view: View) -> View:
    """Carry the form out once. Stands below ``login_required``. A form without the field is carried out as it is."""
    return _acting(view, frozenset())


def acting_when(*actions: str) -> Callable[[View], View]:
    """The same for a form with several buttons, of which these act (or none, which is the first). The others change
    nothing but the form, and may be pressed any number of times.
    """
    return lambda view: _acting(view, frozenset(actions))


def _acting(view: View, actions: frozenset[str]) -> View:
    @wraps(view)
    def carried_out(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        key = request.POST.get(FIELD, "") if request.method == "POST" else ""
        if not key or (actions and request.POST.get("action", "") not in actions | {""}):
            return view(request, *args, **kwargs)
        found = _claimed(request, key)
        if isinstance(found, Claim):
            return _first(found, view, request, *args, **kwargs)
        return _repeat(request, found)

    carried_out.is_acting = True  # type: ignore[attr-defined]
    return carried_out


def _claimed(request: HttpRequest, key: str) -> Claim | Finished | Busy | Reused | CutOff:
    try:
        once.checked_key(key)
    except InvalidInput as error:
        raise SuspiciousOperation(error.message) from error
    user_id, digest = request.user.pk, once.digest_of(_parts(request))
    assert user_id is not None
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = once.claim(user_id, request.path, key, digest)
        if not isinstance(found, Busy) or time.monotonic() >= until:
            return found
        time.sleep(LOOK_SECONDS)


def _parts(request: HttpRequest) -> Iterator[bytes]:
    """Yield what was sent, field by field."""
    for name, values in sorted(request.POST.lists()):
        if name not in NOT_PART:
            yield from (part.encode(errors="replace") for part in (name, *values))
    for name in sorted(request.FILES):
        yield name.encode(errors="replace")
        for upload in request.FILES.getlist(name):
            yield upload.read()
            upload.seek(0)


# The first one --------------------------------------------------------------------------------------------------------


def _first(claim: Claim, view: View, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
    try:
        with claim.holding():
            response = view(request, *args, **kwargs)
    except Exception:  # an answer that is no page (404), or a mistake of ours: told by what was done
        claim.broke()
        raise
    if response.status_code >= 500:
        claim.broke()
    elif "Location" in response.headers:
        claim.finish(response.status_code, _answer(request, response))
    else:  # a form that is shown again, mostly
        claim.finish_if_done(response.status_code, _answer(request, response))
    return response


def _answer(request: HttpRequest, response: HttpResponseBase) -> dict[str, Any]:
    said = [[message.level, str(message.message)] for message in _queued(request)]
    if "Location" in response.headers:
        return {"location": response.headers["Location"], "said": said}
    if not isinstance(response, HttpResponse) or len(response.content) > LARGEST_BODY:
        return {"said": said}
    return {"body": response.text, "type": response.headers["Content-Type"], "said": said}


def _queued(request: HttpRequest) -> Any:
    """Return the messages that the view has left for the next page."""
    return getattr(messages.get_messages(request), "_queued_messages", ())


# Repeats --------------------------------------------------------------------------------------------------------------


def _repeat(request: HttpRequest, found: Finished | Busy | Reused | CutOff) -> HttpResponseBase:
    if isinstance(found, Finished):
        return _told_again(request, found)
    if request.headers.get("HX-Request"):
        return HttpResponse(status=204)  # the first one's answer is what belongs into the page
    if isinstance(found, CutOff):
        messages.warning(request, found.message)
    elif isinstance(found, Reused):
        messages.error(request, OTHER)
    else:
        messages.warning(request, STILL)
    return redirect(_where_from(request))


def _told_again(request: HttpRequest, found: Finished) -> HttpResponseBase:
    answer = found.answer
    if "body" in answer:
        is_part = bool(request.headers.get("HX-Request"))
        note = f'{MAIN}<div class="note-bar info" role="status">{DONE}</div>'
        body = answer["body"] if is_part else answer["body"].replace(MAIN, note, 1)
        return HttpResponse(body, content_type=answer["type"], status=found.status)
    said = answer.get("said", [])
    messages.info(request, AGAIN if said else DONE)
    for level, text in said:
        messages.add_message(request, level, text)
    return redirect(answer.get("location") or _where_from(request))


def _where_from(request: HttpRequest) -> str:
    """Return the page that the form was on, if it is one of ours."""
    page = request.headers.get("Referer", "")
    hosts = {request.get_host()}
    return page if url_has_allowed_host_and_scheme(page, hosts, require_https=request.is_secure()) else "/"
