"""API requests that are carried out once: the header ``Idempotency-Key``, on every POST of owned rows."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any, Final

from django.http import HttpResponse, QueryDict
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from tradebot.core import once
from tradebot.core.errors import Conflict, InvalidInput
from tradebot.core.once import Claim, CutOff, Finished, Reused

__all__ = ["HEADER", "REPLAYED", "OnceSchema", "Repeatable"]

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
PARAMETER: Final = OpenApiParameter(
    HEADER,
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description=(
        "Makes the request safe to repeat: 1 to 200 visible ASCII characters of your choice, such as a UUID, one for "
        "each thing that you want done. A repeat within 24 hours is not carried out and gets the first answer, with "
        f"`{REPLAYED}: true`. 409 `in_progress`: the first one is still being carried out. 409 `key_reused`: the "
        "key came with another body. 409 `unanswered`: the first one did something and was cut off before its answer; "
        "`numbers.done` names what, and nothing is done again. A request that was refused and did nothing may be sent "
        "again with the same key."
    ),
)


class _Repeated(Exception):
    """It was carried out before; this is the answer."""

    def __init__(self, found: Finished) -> None:
        super().__init__()
        self.found = found


class Repeatable:
    """Mixin of viewsets, in front of theirs: carries a POST with a key out once.

    ``shows_secrets`` names the actions whose answers must not be kept: they take no key.
    """

    shows_secrets: frozenset[str] = frozenset()
    once_claim: Claim | None = None
    once_stack: ExitStack

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        with ExitStack() as self.once_stack:
            try:
                return super().dispatch(request, *args, **kwargs)  # type: ignore[misc]
            except Exception:  # no answer will come: what was done counts
                if self.once_claim is not None and self.once_claim.is_open:
                    self.once_claim.broke()
                raise

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        key = request.headers.get(HEADER)
        if request.method != "POST" or key is None:
            return
        if getattr(self, "action", None) in self.shows_secrets:
            raise InvalidInput(
                "not_repeatable",
                "The answer shows a secret, so it is not kept for repeats. Send this without the header.",
                field=HEADER,
            )
        assert request.user.pk is not None
        found = once.claim(request.user.pk, request.path, once.checked_key(key), once.digest_of([_body(request)]))
        if isinstance(found, Claim):
            self.once_claim = found
            self.once_stack.enter_context(found.holding())
        elif isinstance(found, Finished):
            raise _Repeated(found)
        elif isinstance(found, CutOff):
            raise Conflict("unanswered", found.message, done="; ".join(once.told(found.did)))
        elif isinstance(found, Reused):
            raise Conflict("key_reused", "This key was used for another request.", field=HEADER)
        else:
            raise Conflict("in_progress", "The first request with this key is still being carried out.", field=HEADER)

    def handle_exception(self, exc: Exception) -> Any:
        if not isinstance(exc, _Repeated):
            return super().handle_exception(exc)  # type: ignore[misc]
        answer = exc.found.answer
        response = HttpResponse(answer["body"], content_type=answer["type"], status=exc.found.status)
        response.headers[REPLAYED] = "true"
        return response

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        found = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc]
        claim = self.once_claim
        if claim is not None and claim.is_open:
            data = getattr(found, "data", None)
            body = "" if data is None else JSONRenderer().render(data).decode()
            answer = {"body": body, "type": "application/json"}
            if found.status_code >= 500:
                claim.broke()
            elif found.status_code >= 400:
                claim.finish_if_done(found.status_code, answer)
            else:
                claim.finish(found.status_code, answer)
        return found


def _body(request: Request) -> bytes:
    data = dict(request.data.lists()) if isinstance(request.data, QueryDict) else request.data
    return json.dumps(data, sort_keys=True, default=str).encode()


class OnceSchema(AutoSchema):
    """Describes the header where it is taken."""

    def get_override_parameters(self) -> list[Any]:
        found = list(super().get_override_parameters())
        view: Any = self.view
        if self.method != "POST" or not isinstance(view, Repeatable):
            return found
        return found if getattr(view, "action", "") in view.shows_secrets else [*found, PARAMETER]
