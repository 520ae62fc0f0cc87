"""The list of bots, and one bot's page: figures, why no trade, starting and stopping in place."""

from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from accounts.models import Account, Membership, User
from bots import templates
from bots.models import Bot, BotProduct, ReplayRun
from marketdata import services as market_services
from marketdata.models import Product
from positions.models import Position
from tests.factories import (
    AccountFactory,
    AuditEntryFactory,
    BotFactory,
    BotTemplateFactory,
    DecisionFactory,
    MembershipFactory,
    ProductFactory,
    ReplayRunFactory,
    UserFactory,
)
from tests.looking import everything
from tests.pages.dealing import MOST_QUERIES, SETTINGS, closed_deal, open_deal, queries_of
from tests.pages.markup import offences, text
from tradebot.core import clock
from tradebot.core.scoping import all_accounts

pytestmark = pytest.mark.django_db

BULK = ["sell-all/", "cancel-all/"]
COPIES = ["clone/", "copy/"]
RULE = {"items": [{"indicator": "rsi", "timeframe": "5m", "operator": "<", "value": 30}]}


@pytest.fixture
def product() -> Product:
    return ProductFactory()


@pytest.fixture
def bot(account: Account, product: Product) -> Bot:
    return BotFactory(account=account, name="Dip ladder", products=[product], settings=SETTINGS, budget_pct=50)


def fresh(bot: Bot) -> Bot:
    return everything(Bot).get(pk=bot.pk)


# The list -----------------------------------------------------------------------------------------------------------


def test_without_bots_three_presets_are_offered(browser: Client, account: Account) -> None:
    templates.seed_presets()
    page = text(browser.get("/bots/"))
    assert "No bots yet" in page
    for slug in ("conservative", "balanced", "aggressive"):
        assert f"/bots/new/?template={slug}" in page


def test_a_row_shows_state_pairs_deals_profit_and_the_last_decision(
    browser: Client, bot: Bot, product: Product
) -> None:
    open_deal(bot, product)
    closed_deal(bot, product)
    closed_deal(bot, product, gain="0.9")
    with all_accounts("test data"):
        BotProduct.objects.update(last_message="1 of 1 deals are open", last_changed_at=clock.now())
    response = browser.get("/bots/")
    assert offences(response) == []
    (row,) = response.context["rows"]
    assert (row.open_deals, row.closed, row.win_pct, row.symbols) == (1, 2, 50, ["BTC-USD"])
    assert row.budget > 10_000  # half of the 1,000 that is free and of the two bitcoins in the deal
    page = text(response)
    for wanted in ("Dip ladder", "Stopped", "1 of 1 deals are open", "Start on paper", "50.0"):
        assert wanted in page


def test_the_list_is_narrowed_and_sorted(browser: Client, bot: Bot, trader: User) -> None:
    BotFactory(account=bot.account, name="Another", status="running", settings=SETTINGS)
    BotFactory(account=None, owner=trader, name="Orphan", settings=SETTINGS)
    closed_deal(bot, ProductFactory())

    def names(query: str) -> list[str]:
        return [row.bot.name for row in browser.get(f"/bots/?{query}").context["rows"]]

    assert names("") == ["Another", "Dip ladder", "Orphan"]
    assert names("state=running") == ["Another"]
    assert names("state=orphaned") == ["Orphan"]
    assert names("q=dip") == ["Dip ladder"]
    assert names("sort=profit")[0] == "Dip ladder"
    assert names("sort=newest")[0] == "Orphan"
    assert names("sort=guess&state=odd&page=7") == ["Another", "Dip ladder", "Orphan"]


def test_an_archived_bot_leaves_the_list_and_keeps_its_page(browser: Client, bot: Bot) -> None:
    answer = browser.post(f"/bots/{bot.pk}/archive/", follow=True)
    assert "is archived" in text(answer)
    assert not answer.context["rows"]
    assert "Archived" in text(browser.get(f"/bots/{bot.pk}/"))


def test_a_bot_starts_and_stops_in_place_with_and_without_scripts(browser: Client, bot: Bot) -> None:
    answer = browser.post(f"/bots/{bot.pk}/start/", {"next": "/bots/"})
    assert (answer.status_code, answer["Location"]) == (302, "/bots/")
    assert fresh(bot).is_running
    fragment = browser.post(f"/bots/{bot.pk}/stop/", {"row": "1"}, headers={"HX-Request": "true"})
    assert f'id="bot-{bot.pk}"' in text(fragment)
    assert "<html" not in text(fragment)
    assert not fresh(bot).is_running


def test_a_refused_start_says_why(browser: Client, account: Account) -> None:
    bot = BotFactory(account=account, settings=SETTINGS)
    answer = browser.post(f"/bots/{bot.pk}/start/", follow=True)
    assert "no pair that is still traded" in text(answer)


def test_only_a_post_starts_a_bot(browser: Client, bot: Bot) -> None:
    assert browser.get(f"/bots/{bot.pk}/start/").status_code == 405


def test_the_way_back_never_leaves_this_site(browser: Client, bot: Bot) -> None:
    answer = browser.post(f"/bots/{bot.pk}/start/", {"next": "https://elsewhere.example.com/"})
    assert answer["Location"] == f"/bots/{bot.pk}/"


# Whose --------------------------------------------------------------------------------------------------------------


def test_somebody_elses_bots_do_not_exist(client: Client, bot: Bot, product: Product) -> None:
    client.force_login(UserFactory())
    assert "Dip ladder" not in text(client.get("/bots/"))
    pages = ["", "edit/", "export/", "copy/", "sell-all/", "cancel-all/", f"candles/{product.pk}/"]
    assert {client.get(f"/bots/{bot.pk}/{page}").status_code for page in pages} == {404}
    acts = ["start/", "stop/", "run/", "archive/", "assign/", "template/", "edit/", *BULK, *COPIES]
    assert {client.post(f"/bots/{bot.pk}/{act}").status_code for act in acts} == {404}
    assert client.get(f"/bots/new/?like={bot.pk}").status_code == 404
    assert client.post("/bots/preview/", {"bot": bot.pk}).status_code == 404
    assert not fresh(bot).is_running


def test_an_observer_sees_a_bot_and_changes_nothing(client: Client, bot: Bot) -> None:
    client.force_login(MembershipFactory(account=bot.account).user)
    page = text(client.get(f"/bots/{bot.pk}/"))
    assert "Dip ladder" in page
    assert f"/bots/{bot.pk}/edit/" not in page
    assert f"/bots/{bot.pk}/start/" not in text(client.get("/bots/"))
    acts = ["start/", "stop/", "run/", "archive/", "edit/", *BULK, *COPIES]
    assert {client.post(f"/bots/{bot.pk}/{act}").status_code for act in acts} == {404}
    assert {client.get(f"/bots/{bot.pk}/{act}").status_code for act in [*BULK, "copy/"]} == {404}
    assert client.get(f"/bots/{bot.pk}/edit/").status_code == 404


def test_a_manager_starts_a_shared_bot(client: Client, bot: Bot) -> None:
    client.force_login(MembershipFactory(account=bot.account, role=Membership.Role.MANAGER).user)
    client.post(f"/bots/{bot.pk}/start/")
    assert fresh(bot).is_running


@pytest.mark.parametrize("path", ["/bots/", "/bots/new/", "/bots/1/", "/bots/1/edit/"])
def test_the_pages_are_for_signed_in_people(client: Client, path: str) -> None:
    assert client.get(path).status_code == 302


# One bot ------------------------------------------------------------------------------------------------------------


def test_why_no_trade_shows_each_condition_with_value_and_threshold(
    browser: Client, account: Account, product: Product
) -> None:
    bot = BotFactory(account=account, products=[product], settings=SETTINGS | {"open_conditions": RULE})
    check = {
        "path": "1",
        "label": "RSI(14) on 5m is below 30",
        "timeframe": "5m",
        "indicator": "rsi",
        "operator": "<",
        "threshold": 30.0,
        "value": 50.6,
        "state": "unmet",
        "reason": "",
    }
    with all_accounts("test data"):
        BotProduct.objects.update(
            last_code="conditions_not_met",
            last_message="waiting for: RSI(14) on 5m is below 30 (now 50.6)",
            last_evidence={"checks": [check]},
        )
    response = browser.get(f"/bots/{bot.pk}/")
    assert offences(response) == []
    page = text(response)
    for wanted in ("was not opened:", "RSI(14) on 5m", "Not met", "50.6", "below 30", "20.6 lower", "0/1"):
        assert wanted in page
    assert "as decided" in page


def test_why_no_trade_asks_every_question_with_its_number(browser: Client, account: Account) -> None:
    market_services.refresh_products("simulated")
    product = Product.objects.get(exchange="simulated", symbol="BTC-USD")
    asked = {
        "open_conditions": {"items": [{"indicator": "rsi", "timeframe": "5m", "operator": "<", "value": 1}]},
        "max_spread": "0.01",
        "min_volume_24h": "999999999999",
        "allowed_categories": ["blacklisted"],
        "cooldown_seconds": 60,
        "slippage_guard": True,
        "base_order_size": "1000000",
    }
    bot = BotFactory(account=account, products=[product], settings=SETTINGS | asked, budget_pct=50)
    response = browser.get(f"/bots/{bot.pk}/")
    found = {gate.name: gate for gate in response.context["page"].why.gates}
    assert (found["Bot"].state, found["Bot"].value) == ("unmet", "stopped")
    assert (found["Free deal slot"].state, found["Free deal slot"].value) == ("met", "0 of 1 open")
    assert found["Category of BTC"].needed == "blacklisted"
    assert found["Category of BTC"].state == "unmet"
    assert found["Volume in 24 h"].needed == "≥ 999\u2009999\u2009999\u2009999"
    assert (found["Cooldown over"].state, found["Price"].state, found["Budget"].state) == ("met", "met", "met")
    assert found["Whole ladder"].state == "unmet"
    assert "costs" in found["Whole ladder"].value
    assert (found["Free USD"].state, found["Free USD"].to_go[-5:]) == ("unmet", " more")
    assert found["Slippage"].needed == "≤ 0.50\u00a0%"
    page = text(response)
    for wanted in ("Still to go", "Category of BTC", "the bot is stopped: it manages its deals and opens none"):
        assert wanted in page


def test_a_bot_that_trades_both_ways_is_looked_at_in_each_direction(
    browser: Client, account: Account, product: Product
) -> None:
    both = {"direction": "both", "open_conditions": RULE}
    bot = BotFactory(account=account, products=[product], settings=SETTINGS | both, budget_pct=50)
    with all_accounts("test data"):
        BotProduct.objects.update(last_message="too high", short_message="too low", short_code="conditions_not_met")
    page = browser.get(f"/bots/{bot.pk}/").context["page"]
    assert (page.chosen.direction, page.chosen.message) == ("long", "too high")
    response = browser.get(f"/bots/{bot.pk}/?side=short")
    page = response.context["page"]
    assert (page.chosen.direction, page.chosen.message) == ("short", "too low")
    assert "above 70" in text(response)  # the mirrored rule
    assert "Free BTC" in {gate.name for gate in page.why.gates} | {"Free BTC"}
    assert browser.get(f"/bots/{bot.pk}/?side=sideways").context["page"].chosen.direction == "long"


def test_a_pair_refused_for_another_reason_shows_the_rule_as_it_stands_now(
    browser: Client, account: Account, product: Product
) -> None:
    bot = BotFactory(account=account, products=[product], settings=SETTINGS | {"open_conditions": RULE})
    with all_accounts("test data"):
        BotProduct.objects.update(
            last_code="deal_limit", last_message="1 of 1 deals are open", last_evidence={"open_deals": 1}
        )
    page = text(browser.get(f"/bots/{bot.pk}/"))
    assert "as they stand now" in page
    assert "needs" in page  # no candles are held in this test, and that is said
    assert "Open deals</td>" in page


def test_another_pair_is_looked_at_without_scripts(browser: Client, account: Account, product: Product) -> None:
    other = ProductFactory(symbol="ETH-USD")
    bot = BotFactory(account=account, products=[product, other], settings=SETTINGS)
    assert browser.get(f"/bots/{bot.pk}/?pair=ETH-USD").context["page"].chosen.product == other
    assert browser.get(f"/bots/{bot.pk}/?pair=gone").context["page"].chosen.product == product


def test_the_page_shows_decisions_deals_settings_and_who_changed_them(
    browser: Client, bot: Bot, product: Product, trader: User
) -> None:
    open_deal(bot, product)
    DecisionFactory(bot=bot, product=product, message="price reached safety order 2", action="add", phase="add")
    DecisionFactory(bot=bot, product=product, message="nothing to do", action="none")
    AuditEntryFactory(
        user=trader,
        action="bot.changed",
        target=f"bot:{bot.pk}",
        detail={"changes": {"settings.take_profit": ["3", "1.5"], "pairs": [["A"], ["A", "B"]]}},
    )
    page = text(browser.get(f"/bots/{bot.pk}/"))
    for wanted in (
        "price reached safety order 2",
        "nothing to do",
        "Take profit <del>3</del>",
        "A, B",
        "1 of 1",
        "20 %",
    ):
        assert wanted in page
    acted = text(browser.get(f"/bots/{bot.pk}/?show=acted"))
    assert "price reached safety order 2" in acted
    assert "nothing to do" not in acted


def test_an_orphaned_bot_is_given_an_account(browser: Client, trader: User, account: Account, product: Product) -> None:
    bot = BotFactory(account=None, owner=trader, products=[product], settings=SETTINGS)
    page = text(browser.get(f"/bots/{bot.pk}/"))
    assert "has no account" in page
    browser.post(f"/bots/{bot.pk}/assign/", {"account": account.pk})
    assert fresh(bot).account_id == account.pk
    assert browser.post(f"/bots/{bot.pk}/assign/", {"account": "x"}).status_code == 404
    assert browser.post(f"/bots/{bot.pk}/assign/", {"account": AccountFactory().pk}).status_code == 404


def test_the_chart_of_a_pair_has_the_bots_fills(browser: Client, bot: Bot, product: Product) -> None:
    closed_deal(bot, product)
    data = browser.get(f"/bots/{bot.pk}/candles/{product.pk}/?timeframe=15m").json()
    assert len(data["candles"]) > 100
    assert [mark["kind"] for mark in data["marks"]] == ["base", "exit"]
    assert data["marks"][1]["text"].startswith("+")
    stranger = ProductFactory(symbol="ETH-USD")
    assert browser.get(f"/bots/{bot.pk}/candles/{stranger.pk}/").status_code == 404


def test_settings_are_kept_as_a_template_and_exported(browser: Client, bot: Bot, trader: User) -> None:
    answer = browser.post(f"/bots/{bot.pk}/template/", {"name": "My ladder"}, follow=True)
    assert "Saved as template “My ladder”" in text(answer)
    assert "already have a template" in text(
        browser.post(f"/bots/{bot.pk}/template/", {"name": "My ladder"}, follow=True)
    )
    data = browser.get(f"/bots/{bot.pk}/export/").json()
    assert (data["symbols"], data["settings"]["take_profit"], data["budget_pct"]) == (["BTC-USD"], "3", "50")
    assert (data["format"], data["version"]) == ("tradebot-bot", 1)


def test_only_ones_own_template_can_be_removed(browser: Client, account: Account, trader: User) -> None:
    own, foreign = BotTemplateFactory(owner=trader), BotTemplateFactory()
    assert browser.post(f"/bots/templates/{foreign.pk}/delete/").status_code == 404
    assert browser.post(f"/bots/templates/{own.pk}/delete/").status_code == 302
    assert browser.post(f"/bots/templates/{own.pk}/delete/").status_code == 404


def test_a_template_of_ones_own_is_offered_with_a_button_to_remove_it(
    browser: Client, account: Account, trader: User
) -> None:
    own = BotTemplateFactory(owner=trader, name="My ladder")
    assert f"/bots/templates/{own.pk}/delete/" in text(browser.get("/bots/"))


def test_a_replay_that_is_over_does_not_say_running(browser: Client, trader: User, product: Product) -> None:
    account = AccountFactory(owner=trader, exchange="replay", balances={"USD": 1000})
    bot = BotFactory(account=account, status="running", next_check_at=clock.now(), settings=SETTINGS)
    run = ReplayRunFactory(account=account, bot=bot, status="running", finished_at=None)
    browser.post("/accounts/switch/", {"account": account.pk})
    assert "Running" in text(browser.get(f"/bots/{bot.pk}/"))
    everything(ReplayRun).filter(pk=run.pk).update(status="finished")
    for path in (f"/bots/{bot.pk}/", "/bots/"):
        page = text(browser.get(path))
        assert "Replay finished" in page
        assert '<span class="st running">' not in page
    assert [row.bot for row in browser.get("/bots/?state=running").context["rows"]] == []
    assert [row.bot for row in browser.get("/bots/?state=stopped").context["rows"]] == [bot]


# The decisions ------------------------------------------------------------------------------------------------------


def test_decisions_come_in_pages_and_open_to_what_was_asked(browser: Client, bot: Bot, product: Product) -> None:
    check = {"label": "RSI(14) on 5m is below 30", "operator": "<", "threshold": 30.0, "value": 50.6, "state": "unmet"}
    for number in range(30):
        DecisionFactory(
            bot=bot,
            product=product,
            action="open" if number == 3 else "none",
            message=f"decision {number}",
            evidence={"checks": [check], "deal_budget": "25"},
        )
    response = browser.get(f"/bots/{bot.pk}/")
    assert offences(response) == []
    page = text(response)
    assert "decision 29" in page
    assert "decision 4<" not in page
    assert "1 to 25 of 30" in page
    assert "Deal budget" in page
    assert page.count("<details") >= 25
    older = text(browser.get(f"/bots/{bot.pk}/?trail=2"))
    assert "decision 4<" in older
    acted = browser.get(f"/bots/{bot.pk}/?show=acted").context["page"]
    assert [row.decision.message for row in acted.decisions] == ["decision 3"]
    assert browser.get(f"/bots/{bot.pk}/?trail=many").status_code == 200


def test_whoever_sees_the_bot_sees_who_changed_what(client: Client, bot: Bot, trader: User) -> None:
    rule = {"items": [{"indicator": "rsi", "timeframe": "5m", "operator": "<", "value": 30}]}
    changes = {"settings.open_conditions": [{"items": []}, rule], "settings.take_profit": ["3", "4"]}
    AuditEntryFactory(
        user=trader, actor=trader.email, action="bot.changed", target=f"bot:{bot.pk}", detail={"changes": changes}
    )
    moved = {"changes": {"account": ["Hidden purse", "Practice"]}}
    AuditEntryFactory(user=trader, action="bot.assigned", target=f"bot:{bot.pk}", detail=moved)
    client.force_login(MembershipFactory(account=bot.account).user)
    page = text(client.get(f"/bots/{bot.pk}/"))
    for wanted in (trader.email, "no conditions", "RSI(14) on 5m is below 30", "<del>3</del>"):
        assert wanted in page
    assert "Hidden purse" not in page
    client.force_login(trader)
    assert "Hidden purse" in text(client.get(f"/bots/{bot.pk}/"))


# Copies, and all deals at once --------------------------------------------------------------------------------------


def test_a_bot_is_cloned_and_copied_to_another_account(browser: Client, trader: User, bot: Bot) -> None:
    answer = browser.post(f"/bots/{bot.pk}/clone/", follow=True)
    assert "“Dip ladder 2” is ready and stopped." in text(answer)
    other = AccountFactory(owner=trader, name="Second", balances={"USD": 1000})
    page = text(browser.get(f"/bots/{bot.pk}/copy/"))
    assert f'<option value="{other.pk}"' in page
    assert f'<option value="{bot.account_id}"' not in page
    answer = browser.post(f"/bots/{bot.pk}/copy/", {"account": other.pk}, follow=True)
    assert "“Dip ladder 3” is ready and stopped." in text(answer)
    assert everything(Bot).filter(account=other).count() == 1
    refused = browser.post(f"/bots/{bot.pk}/copy/", {"account": bot.account_id})
    assert (refused.status_code, "on this account already" in text(refused)) == (422, True)
    assert browser.post(f"/bots/{bot.pk}/copy/", {"account": AccountFactory().pk}).status_code == 404


def test_a_bot_is_imported_from_a_file_and_from_text(browser: Client, bot: Bot, account: Account) -> None:
    exported = browser.get(f"/bots/{bot.pk}/export/").content.decode()
    page = browser.get("/bots/import/")
    assert offences(page) == []
    answer = browser.post("/bots/import/", {"account": account.pk, "document": exported}, follow=True)
    assert "“Dip ladder 2” is ready" in text(answer)
    upload = SimpleUploadedFile("bot.json", exported.encode())
    answer = browser.post("/bots/import/", {"account": account.pk, "name": "Filed", "file": upload}, follow=True)
    assert "“Filed” is ready" in text(answer)
    wrong = exported.replace('"take_profit": "3"', '"take_profit": "900"')
    refused = browser.post("/bots/import/", {"account": account.pk, "document": wrong})
    assert refused.status_code == 422
    assert '<b class="num">take_profit</b>' in text(refused)
    large = SimpleUploadedFile("bot.json", b" " * (256 * 1024 + 1))
    assert "at most 256 KB" in text(browser.post("/bots/import/", {"account": account.pk, "file": large}))
    foreign = AccountFactory()
    assert browser.post("/bots/import/", {"account": foreign.pk, "document": exported}).status_code == 404
    assert everything(Bot).count() == 3


def test_all_deals_are_sold_or_cancelled_after_a_look_at_them(browser: Client, account: Account) -> None:
    market_services.refresh_products("simulated")
    product = Product.objects.get(exchange="simulated", symbol="BTC-USD")
    bot = BotFactory(account=account, name="Busy", products=[product], settings=SETTINGS, status="running")
    deal = open_deal(bot, product)
    for path, question in (("sell-all/", "Close 1 deal at market now?"), ("cancel-all/", "Give up 1 deal")):
        response = browser.get(f"/bots/{bot.pk}/{path}")
        assert offences(response) == []
        page = text(response)
        assert question in page
        assert "BTC-USD" in page
        assert "Stop the bot first" in page
        assert response.context["preview"].count == 1
    answer = browser.post(f"/bots/{bot.pk}/cancel-all/", {"stop": "on"})
    assert "1 of 1 cancelled." in text(answer)
    assert everything(Position).get(pk=deal.pk).status == "cancelled"
    assert not fresh(bot).is_running
    assert "no open deal" in text(browser.get(f"/bots/{bot.pk}/sell-all/"))


def test_run_now_says_what_was_decided(browser: Client, account: Account) -> None:
    market_services.refresh_products("simulated")
    product = Product.objects.get(exchange="simulated", symbol="BTC-USD")
    given = {"status": "running", "next_check_at": clock.now(), "budget_pct": 50}
    bot = BotFactory(account=account, products=[product], settings=SETTINGS | {"open_conditions": RULE}, **given)
    page = text(browser.post(f"/bots/{bot.pk}/run/", follow=True))
    assert "was looked at: nothing to do now." in page
    assert "BTC-USD: " in page
    stopped = BotFactory(account=account, products=[product], settings=SETTINGS)
    assert "nothing to look at" in text(browser.post(f"/bots/{stopped.pk}/run/", follow=True))


# Queries ------------------------------------------------------------------------------------------------------------


def test_the_number_of_queries_does_not_grow_with_the_bots(browser: Client, account: Account, product: Product) -> None:
    def add(count: int) -> None:
        for _ in range(count):
            bot = BotFactory(account=account, products=[product], settings=SETTINGS)
            open_deal(bot, product)

    add(5)
    few = queries_of(browser, "/bots/")
    add(45)
    assert queries_of(browser, "/bots/") == few <= MOST_QUERIES


def test_the_number_of_queries_does_not_grow_with_a_bots_pairs_and_deals(
    browser: Client, account: Account, product: Product
) -> None:
    pairs = [ProductFactory(symbol=f"C{number}-USD") for number in range(50)]
    bot = BotFactory(account=account, products=[product, *pairs[:4]], settings=SETTINGS)
    for pair in pairs[:4]:
        open_deal(bot, pair)
        DecisionFactory(bot=bot, product=pair)
    few = queries_of(browser, f"/bots/{bot.pk}/")
    with all_accounts("test data"):
        BotProduct.objects.bulk_create([BotProduct(bot=bot, product=pair) for pair in pairs[4:]])
    for pair in pairs[4:]:
        open_deal(bot, pair)
        DecisionFactory(bot=bot, product=pair)
    assert everything(Position).count() == 50
    assert queries_of(browser, f"/bots/{bot.pk}/") == few <= MOST_QUERIES + 29
