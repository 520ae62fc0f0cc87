"""How far the owner of a bot trusts a coin: their own review, else the operator's word (``marketdata.coins``).

On a shared account the owner's reviews count, whoever looks after the bot: it is the owner's money. Reviews are written
here and nowhere else; every gate reads them through here, at the next look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.db import transaction

from accounts.models import User
from bots.models import CoinReview
from marketdata import coins
from marketdata.models import Coin, Product
from tradebot.core import audit, clock
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.scoping import detached
from tradebot.core.words import Category

__all__ = ["CoinRow", "categories", "drop_review", "known_coins", "overrides_of", "review"]


def overrides_of(owner_ids: Iterable[int], codes: Iterable[str] | None = None) -> dict[int, dict[str, str]]:
    """Return ``{person id: {code: category}}`` of what these people think (of ``codes``, None: of all). One query."""
    found: dict[int, dict[str, str]] = defaultdict(dict)
    with detached("what the owner of a bot thinks of a coin decides what the bot opens, whoever acts for it"):
        rows = CoinReview.objects.filter(owner_id__in=set(owner_ids))
        if codes is not None:
            rows = rows.filter(code__in=set(codes))
        for owner_id, code, category in rows.order_by().values_list("owner_id", "code", "category"):
            found[owner_id][code] = category
    return dict(found)


def categories(owner_id: int, codes: Iterable[str]) -> Mapping[str, str]:
    """Return the category of each coin for this person; "" is unreviewed. Two queries."""
    wanted = list(dict.fromkeys(codes))
    known, own = coins.load(wanted), overrides_of([owner_id], wanted).get(owner_id, {})
    return {code: known.effective_category(code, own) for code in wanted}


# A person's own reviews ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CoinRow:
    """A coin as one person's bots see it: their own review, the operator's word, and which of them counts."""

    code: str
    own: CoinReview | None
    operators: str
    note: str
    category: str

    @property
    def whose(self) -> str:
        """Return whose word it is: "own", "operator", or "" where nobody has reviewed the coin."""
        return "own" if self.own is not None else "operator" if self.operators else ""


def known_coins(search: str = "", *, own_only: bool = False) -> list[CoinRow]:
    """Return the coins there are whose code holds ``search``, in the bound person's eyes. Three queries.

    Those of every market's pairs, those the operator knows, and those that the person has reviewed.
    """
    reviews = {row.code: row for row in CoinReview.objects.all()}
    known = {row.code: row for row in Coin.objects.all()}
    book = coins.Coins({code: row.category for code, row in known.items() if row.category})
    own = {code: row.category for code, row in reviews.items()}
    codes = set(reviews)
    if not own_only:
        codes |= set(known) | set(Product.objects.order_by().values_list("base", flat=True).distinct())
    wanted = search.strip().upper()
    return [
        CoinRow(
            code,
            reviews.get(code),
            book.categories.get(code, ""),
            known[code].note if code in known else "",
            book.effective_category(code, own),
        )
        for code in sorted(codes)
        if wanted in code
    ]


@transaction.atomic
def review(person: User, code: str, category: str, reason: str = "") -> tuple[CoinReview, bool]:
    """Put a coin into a category for this person's bots; return the review and whether it is a new one.

    It counts from the next look on; open deals are managed whatever it says. Raises InvalidInput (code, category,
    reason).
    """
    wanted, words = code.strip().upper(), " ".join(reason.split())
    longest = CoinReview._meta.get_field("reason").max_length or 0
    if category not in {word.value for word in Category}:
        raise InvalidInput("unknown_category", f"A category is one of {', '.join(Category)}.", field="category")
    if len(words) > longest or not words.isprintable():
        raise InvalidInput("bad_reason", f"A reason has at most {longest} characters.", field="reason")
    User.objects.select_for_update(no_key=True).get(pk=person.pk)  # two requests leave one review
    row = CoinReview.objects.filter(owner=person, code=wanted).first()
    if row is None and not _is_known(wanted):
        raise InvalidInput("unknown_coin", f"{wanted[:20] or 'Nothing'} is no coin that is known here.", field="code")
    before = row.category if row else None
    is_new = row is None
    row = row or CoinReview(owner=person, code=wanted)
    if is_new or (row.category, row.reason) != (category, words):
        row.category, row.reason, row.updated_at = category, words, clock.now()
        row.save()
        audit.record(
            person.pk, person.email, "coin.reviewed", f"coin:{wanted}", category=[before, category], reason=words
        )
    return row, is_new


@transaction.atomic
def drop_review(person: User, code: str) -> None:
    """Let the operator's word count again for this coin. Raises NotFound where the person has not reviewed it."""
    row = CoinReview.objects.filter(owner=person, code=code).first()
    if row is None:
        raise NotFound(message="You have not reviewed this coin.")
    row.delete()
    audit.record(person.pk, person.email, "coin.review_dropped", f"coin:{code}", category=[row.category, None])


def _is_known(code: str) -> bool:
    return bool(code) and (Coin.objects.filter(code=code).exists() or Product.objects.filter(base=code).exists())
