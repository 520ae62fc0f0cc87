"""A form that is sent again (double click, back and send, refresh) is carried out once, and shows what came of it."""

# Fixtures of other files are imported by their names:
# ruff: noqa: F811
from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import pytest
from django.conf import settings
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.models import Account, PaperEntry
from bots.models import Bot
from positions.models import Order, Position
from tests.factories import ActionKeyFactory
from tests.looking import everything
from tests.pages.markup import text
from tests.pages.test_deals_actions import deal, fresh, product  # noqa: F401 (fixtures)
from tradebot.core import clock, once, once_pages
from tradebot.core.models import ActionKey
from tradebot.core.once import LEASE
from tradebot.core.once_pages import AGAIN, DONE, FIELD, OTHER, STILL, is_acting
from tradebot.core.scoping import detached

pytestmark = pytest.mark.django_db(transaction=True)


class _Forms(HTMLParser):
    """The forms of a page: where each is sent, and its hidden fields."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.page, self.found = page, list[tuple[str, dict[str, str]]]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name: value or "" for name, value in attrs}
        if tag == "form" and names.get("method") == "post":
            self.found.append((names.get("action", "") or self.page, {}))
        if tag == "input" and names.get("type") == "hidden" and self.found:
            self.found[-1][1].setdefault(names.get("name", ""), names.get("value", ""))


def form(browser: Client, page: str, to: str = "") -> dict[str, str]:
    """Open a page and return the hidden fields of its form that is sent to ``to``."""
    reader = _Forms(page.partition("?")[0])
    reader.feed(text(browser.get(page)))  # type: ignore[arg-type]
    return next(
        fields for action, fields in reader.found if FIELD in fields and action.partition("#")[0] == (to or reader.page)
    )


def said(browser: Client, answer: Any) -> str:
    """Follow the answer and return the page."""
    assert answer.status_code == 302, text(answer)
    return text(browser.get(answer.headers["Location"]))  # type: ignore[arg-type]


def orders(deal: Position) -> int:
    return everything(Order).filter(position=deal).count()


def test_adding_twice_with_one_form_adds_once(browser: Client, deal: Position) -> None:
    page = f"/deals/{deal.pk}/add-funds/"
    sent = form(browser, page) | {"amount": "50", "order_type": "market"}
    first = browser.post(page, sent)
    shown = said(browser, first)
    assert "The deal has been added to." in shown
    assert AGAIN not in shown
    spent = fresh(deal).quote_spent
    again = browser.post(page, sent)
    assert again.headers["Location"] == first.headers["Location"]
    shown = said(browser, again)
    assert AGAIN in shown
    assert "The deal has been added to." in shown
    assert (orders(deal), fresh(deal).quote_spent) == (2, spent)
    said(browser, browser.post(page, form(browser, page) | {"amount": "50", "order_type": "market"}))
    assert orders(deal) == 3  # a form that was opened anew is another request


def test_a_part_is_closed_once(browser: Client, deal: Position) -> None:
    page = f"/deals/{deal.pk}/close/"
    sent = form(browser, f"{page}?share_pct=40", page) | {"share_pct": "40"}
    for _ in range(3):
        assert "That part is closed." in said(browser, browser.post(page, sent))
    assert orders(deal) == 2


@pytest.mark.parametrize("what", ["deposit", "withdraw"])
def test_money_moves_once(browser: Client, account: Account, what: str) -> None:
    page, to = f"/accounts/{account.pk}/", f"/accounts/{account.pk}/{what}/"
    sent = form(browser, page, to) | {"currency": "USD", "amount": "75"}
    for number in range(3):
        assert (DONE[:20] in said(browser, browser.post(to, sent))) is bool(number)
    with detached("test looks"):
        assert PaperEntry.objects.filter(amount=75 if what == "deposit" else -75).count() == 1


@pytest.mark.parametrize("what", ["clone", "run"])
def test_a_bot_is_cloned_and_looked_at_once(browser: Client, deal: Position, what: str) -> None:
    with detached("test data"):
        Bot.objects.update(budget_kind="fixed", budget_fixed=500, next_check_at=clock.now())
    page, to = f"/bots/{deal.bot_id}/", f"/bots/{deal.bot_id}/{what}/"
    sent = form(browser, page, to)
    answers = [said(browser, browser.post(to, sent)) for _ in range(2)]
    assert AGAIN in answers[1]
    with detached("test looks"):
        assert Bot.objects.count() == (2 if what == "clone" else 1)
        assert ActionKey.objects.get(route=to).finished_at is not None


def test_sell_all_shows_its_answers_again(browser: Client, deal: Position) -> None:
    page = f"/bots/{deal.bot_id}/sell-all/"
    sent = form(browser, page) | {"stop": "on"}
    first, again = browser.post(page, sent), browser.post(page, sent)
    assert "1 of 1 closed." in text(first)  # type: ignore[arg-type]
    assert "1 of 1 closed." in text(again)  # type: ignore[arg-type]
    assert DONE not in text(first)  # type: ignore[arg-type]
    assert text(again).count(DONE) == 1  # type: ignore[arg-type]
    assert orders(deal) == 2


def test_a_row_that_htmx_swaps_is_the_same_again(browser: Client, deal: Position) -> None:
    to = f"/bots/{deal.bot_id}/stop/"
    sent = form(browser, "/bots/", to)
    answers = [browser.post(to, sent, headers={"HX-Request": "true"}) for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert DONE not in text(answers[1])  # type: ignore[arg-type]
    assert form_key(answers[1]) != sent[FIELD]


def form_key(answer: Any) -> str:
    found = re.search(rf'name="{FIELD}" value="(\w+)"', text(answer))
    assert found is not None
    return found.group(1)


def test_other_values_in_a_form_that_was_sent_are_not_carried_out(browser: Client, deal: Position) -> None:
    page = f"/deals/{deal.pk}/add-funds/"
    sent = form(browser, page) | {"amount": "50", "order_type": "market"}
    browser.post(page, sent)
    answer = browser.post(
        page, sent | {"amount": "60", "order_type": "market"}, headers={"Referer": f"http://testserver{page}"}
    )
    assert answer.headers["Location"] == f"http://testserver{page}"
    assert OTHER in said(browser, answer)
    assert orders(deal) == 2


def test_what_was_refused_can_be_sent_again_from_the_same_page(browser: Client, deal: Position) -> None:
    page = f"/deals/{deal.pk}/add-funds/"
    sent = form(browser, page)
    refused = browser.post(page, sent | {"amount": "9000", "order_type": "market"})
    assert refused.status_code == 422
    assert "The deal has been added to." in said(
        browser, browser.post(page, sent | {"amount": "50", "order_type": "market"})
    )
    assert orders(deal) == 2


# While the first one is under way, and after it was cut off ----------------------------------------------------------


def under_way(account: Account, to: str, sent: dict[str, str], **more: Any) -> ActionKey:
    """A request of the same form that is being carried out."""
    parts = [part.encode() for name in sorted(sent) if name != FIELD for part in (name, sent[name])]
    values = {"finished_at": None, "lease_until": clock.now() + LEASE} | more
    with detached("test data"):
        row: ActionKey = ActionKeyFactory(
            user=account.owner, route=to, key=sent[FIELD], digest=once.digest_of(parts), **values
        )
    return row


def test_a_double_click_waits_for_the_first_answer_and_shows_it(
    browser: Client, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two answers the browser shows the second; the first one's process is played by the pause in between."""
    to, sent = f"/accounts/{account.pk}/deposit/", {FIELD: "k", "currency": "USD", "amount": "75"}
    row = under_way(account, to, sent)

    def the_first_is_done(_: float) -> None:
        answer = {"location": f"/accounts/{account.pk}/", "said": [[25, "Put in 75 USD."]]}
        ActionKey.objects.filter(pk=row.pk).update(finished_at=clock.now(), status=302, answer=answer)

    monkeypatch.setattr(once_pages.time, "sleep", the_first_is_done)
    assert "Put in 75 USD." in said(browser, browser.post(to, sent))
    with detached("test looks"):
        assert not PaperEntry.objects.filter(amount=75).exists()


def test_one_that_takes_longer_is_said_to_be_under_way(
    browser: Client, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once_pages, "PATIENCE_SECONDS", 0.0)
    to, sent = f"/accounts/{account.pk}/deposit/", {FIELD: "k", "currency": "USD", "amount": "75"}
    under_way(account, to, sent)
    assert STILL in said(browser, browser.post(to, sent))
    assert browser.post(to, sent, headers={"HX-Request": "true"}).status_code == 204


def test_one_that_was_cut_off_is_told_by_what_it_did(browser: Client, account: Account, deal: Position) -> None:
    to, sent = f"/deals/{deal.pk}/add-funds/", {FIELD: "k", "amount": "50"}
    order = everything(Order).get(position=deal)
    under_way(account, to, sent, lease_until=clock.now(), did=f"order {order.pk}\n")
    shown = said(browser, browser.post(to, sent))
    assert f"What it did: base order (order {order.pk}) of BTC-USD: filled" in shown
    assert orders(deal) == 1


def test_a_key_that_is_none_is_a_bad_request(browser: Client, account: Account) -> None:
    assert browser.post(f"/accounts/{account.pk}/deposit/", {FIELD: "é" * 300}).status_code == 400


# Kept lists -----------------------------------------------------------------------------------------------------------

REPEATED: Final = {
    "switch_account": "looks at another account, as often as one likes",
    "bot_preview": "works out what is typed, and changes nothing",
    "theme": "sets what it says",
    "settings": "sets what it says",
    "bot_signals": "shows a secret once, which is not to be stored",
    "settings_api": "shows a secret once, which is not to be stored",
    "settings_coins": "sets what it says",
    "account_keys": "keys leave nothing behind, not even a digest; the same ones change nothing",
    "exchange_connect": "keys leave nothing behind, not even a digest; one that is connected is refused",
    "stop_trading": "stops as often as one presses it: a page of before must not have lost that",
    "signal_hook": "programs send, with an id of their own that counts once",
}
"""Pages that may be sent again, and why."""
TEMPLATES: Final = Path(settings.BASE_DIR) / "templates"


def routes(patterns: Any, prefix: str = "/") -> Any:
    for entry in patterns:
        path = prefix + re.sub(r"<[^>]+>", "1", str(entry.pattern)).replace("^", "").rstrip("$")
        if isinstance(entry, URLResolver):
            if not path.startswith(("/admin", "/auth", "/api", "/static", "/media")):
                yield from routes(entry.url_patterns, path)
        elif isinstance(entry, URLPattern) and "(" not in path:
            yield path, entry


def test_every_page_that_can_be_sent_is_carried_out_once_or_says_why_not(browser: Client, account: Account) -> None:
    sendable = {
        entry.name: entry.callback
        for path, entry in routes(get_resolver().url_patterns)
        if browser.post(path).status_code != 405
    }
    assert len(sendable) > 40
    assert {name for name, view in sendable.items() if not is_acting(view)} == set(REPEATED)


def test_every_form_of_those_pages_has_a_key_of_its_own() -> None:
    without = {
        "bots/_signals.html",
        "bots/signals.html",
        "accounts/connect.html",
        "components/account_switcher.html",
        "components/stop_switch.html",
        "components/top.html",
        "settings/api.html",
        "settings/coins.html",
        "settings/profile.html",
    }
    for file in TEMPLATES.rglob("*.html"):
        name, page = file.relative_to(TEMPLATES).as_posix(), file.read_text()
        if name.startswith(("account/", "allauth/")) or name in without:
            assert "{% once %}" not in page, name
            continue
        assert page.count('method="post"') == page.count("{% once %}"), name


def test_two_forms_of_one_page_have_two_keys(browser: Client, account: Account) -> None:
    page = f"/accounts/{account.pk}/"
    keys = [form(browser, page, f"{page}{what}/")[FIELD] for what in ("deposit", "withdraw", "deposit")]
    assert len(set(keys)) == 3
