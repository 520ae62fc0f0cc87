"""The signals of a bot on its pages: the panel, the hook's secret shown once, verdicts in words."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Account
from bots.models import Bot, SignalHook
from bots.strategies import get_strategy
from tests.factories import BotFactory, MembershipFactory, ProductFactory, SignalFactory, UserFactory
from tradebot.core.scoping import detached


@pytest.fixture
def bot(account: Account) -> Bot:
    rule = {"indicator": "webhook", "timeframe": "5m", "operator": "=", "value": 1}
    settings = get_strategy("indicator_dca").settings_from_json({"open_conditions": {"items": [rule]}}).to_json()
    return BotFactory(account=account, settings=settings, products=[ProductFactory()])


def shown_secret(page: str) -> str:
    found = re.search(r'id="secret" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def test_the_panel_says_what_the_rules_ask_for_and_what_came(browser: Client, bot: Bot) -> None:
    page = browser.get(f"/bots/{bot.pk}/").content.decode()
    assert "Its rules ask for Webhook" in page
    assert "Nothing received yet" in page
    SignalFactory(bot=bot, action="buy", confidence=81.5, reasoning="a breakout")
    SignalFactory(bot=bot, pair="DOGEUSD", verdict="unknown_pair", reason="DOGEUSD is no pair of this bot.")
    page = browser.get(f"/bots/{bot.pk}/").content.decode()
    for words in ("Webhook, buy", "81.5", "a breakout", "all pairs", "Accepted", "Unknown pair", "DOGEUSD is no pair"):
        assert words in page, words


def test_a_bot_whose_rules_ask_for_no_signal_says_how_to(browser: Client, account: Account) -> None:
    bot = BotFactory(account=account, products=[ProductFactory()])
    assert "No rule of this bot asks for a signal" in browser.get(f"/bots/{bot.pk}/").content.decode()


def test_f55_a_secret_is_shown_once_and_opens_the_hook(browser: Client, bot: Bot) -> None:
    answer = browser.post(f"/bots/{bot.pk}/signals/", {"action": "renew"})
    page = answer.content.decode()
    secret = shown_secret(page)
    assert "no-store" in answer.headers["Cache-Control"]
    address = re.search(r'id="address" value="http://testserver(/hooks/[^"]+)"', page)
    assert address is not None
    outside = Client(enforce_csrf_checks=True)
    body = f"secret={secret} ticker=BTCUSD action=buy"
    assert outside.post(address[1], body, content_type="text/plain").json()["verdict"] == "accepted"
    for path in (f"/bots/{bot.pk}/signals/", f"/bots/{bot.pk}/", "/bots/"):
        assert secret not in browser.get(path).content.decode()
    assert address[1] in browser.get(f"/bots/{bot.pk}/").content.decode()


def test_replacing_and_revoking_stop_the_old_secret(browser: Client, bot: Bot) -> None:
    old = shown_secret(browser.post(f"/bots/{bot.pk}/signals/", {"action": "renew"}).content.decode())
    new = shown_secret(browser.post(f"/bots/{bot.pk}/signals/", {"action": "renew"}).content.decode())
    with detached("test looks"):
        path = f"/hooks/{SignalHook.objects.get(bot=bot).public_id}/"

    def sent(secret: str) -> int:
        return Client().post(path, f"secret={secret} pair=all", content_type="text/plain").status_code

    assert (sent(old), sent(new)) == (404, 200)
    assert browser.post(f"/bots/{bot.pk}/signals/", {"action": "revoke"}).status_code == 302
    assert sent(new) == 404
    page = browser.get(f"/bots/{bot.pk}/signals/").content.decode()
    assert "It is closed: nothing comes in." in page
    changes = browser.get(f"/bots/{bot.pk}/").content.decode()
    for words in ("Opened the hook", "Replaced the hook&#x27;s secret", "Closed the hook"):
        assert words in changes, words


@pytest.mark.parametrize(("typed", "status"), [("30", 302), ("0", 422), ("86401", 422), ("soon", 422), ("", 422)])
def test_how_late_an_alert_may_be_is_set_on_the_page(browser: Client, bot: Bot, typed: str, status: int) -> None:
    answer = browser.post(f"/bots/{bot.pk}/signals/", {"action": "lag", "max_lag_seconds": typed})
    assert answer.status_code == status
    with detached("test looks"):
        assert list(SignalHook.objects.values_list("max_lag_seconds", flat=True)) == ([30] if status == 302 else [])
    if status == 422:
        assert 'role="alert"' in answer.content.decode()


def test_an_observer_sees_signals_and_no_address(client: Client, bot: Bot, browser: Client) -> None:
    browser.post(f"/bots/{bot.pk}/signals/", {"action": "renew"})
    SignalFactory(bot=bot, reasoning="seen by observers")
    olga = UserFactory()
    MembershipFactory(account=bot.account, user=olga)
    watcher = Client()
    watcher.force_login(olga)
    for path in (f"/bots/{bot.pk}/", f"/bots/{bot.pk}/signals/"):
        page = watcher.get(path).content.decode()
        assert "seen by observers" in page
        assert "/hooks/" not in page
        assert "Replace the secret" not in page
    assert watcher.post(f"/bots/{bot.pk}/signals/", {"action": "renew"}).status_code == 404


def test_an_orphaned_bot_gets_no_hook(browser: Client, bot: Bot) -> None:
    with detached("test orphans"):
        Bot.objects.filter(pk=bot.pk).update(account=None)
    answer = browser.post(f"/bots/{bot.pk}/signals/", {"action": "renew"}, follow=True)
    assert "The bot has no account" in answer.content.decode()
    with detached("test looks"):
        assert not SignalHook.objects.exists()


def test_the_page_costs_the_same_however_many_signals(browser: Client, bot: Bot) -> None:
    def queries(path: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert browser.get(path).status_code == 200
        return len(captured)

    paths = (f"/bots/{bot.pk}/", f"/bots/{bot.pk}/signals/")
    SignalFactory(bot=bot, product=ProductFactory())
    for path in paths:
        queries(path)
    before = [queries(path) for path in paths]
    for _ in range(60):
        SignalFactory(bot=bot, product=ProductFactory())
    after = [queries(path) for path in paths]
    assert after == before
    assert "2" in browser.get(paths[1] + "?page=2").content.decode()


def test_the_form_offers_signals_and_shows_what_they_say_now(browser: Client, bot: Bot) -> None:
    page = browser.get(f"/bots/{bot.pk}/edit/").content.decode()
    assert '<option value="webhook" selected>' in page
    assert "candles it stays valid" in page
    assert "least confidence" not in page
    fields = {"strategy": "indicator_dca", "action": "refresh", "t.open_conditions.0.0.indicator": "ai_buy"}
    fields |= {"t.open_conditions.0.0.was": "rsi", "t.open_conditions.0.0.timeframe": "5m"}
    page = browser.post("/bots/new/", fields).content.decode()
    assert "least confidence" in page
    assert re.search(r'name="t\.open_conditions\.0\.0\.value" value="1"', page)
