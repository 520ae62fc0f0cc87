"""The bot form: generated fields, the condition builder's round trips, the live ladder, saving and refusing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from accounts.models import Account
from bots import templates
from bots.models import Bot, BotProduct
from bots.strategies.dca_settings import DcaSettings
from bots.strategies.forms import field_specs
from marketdata.models import Product
from tests.factories import AccountFactory, BotFactory, ProductFactory
from tests.looking import everything
from tests.pages.dealing import SETTINGS, open_deal
from tests.pages.markup import offences, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def product() -> Product:
    return ProductFactory()


@pytest.fixture
def bot(account: Account, product: Product) -> Bot:
    small = SETTINGS | {"base_order_size": "50", "safety_order_size": "100"}
    return BotFactory(account=account, name="Dip ladder", products=[product], settings=small, budget_pct=50)


def sent(account: Account, /, **changes: Any) -> dict[str, Any]:
    """What a browser sends for a form that is in order."""
    data: dict[str, Any] = {
        "strategy": "indicator_dca",
        "name": "New one",
        "account": account.pk,
        "symbols": ["BTC-USD"],
        "budget_kind": "percent",
        "budget_pct": "50",
        "split_budget": "on",
        "action": "save",
    }
    defaults = DcaSettings(base_order_type="automatic").to_json()
    for spec in field_specs(DcaSettings):
        if spec.kind in ("decimal", "integer", "choice"):
            value = defaults[spec.name]
            data[f"s.{spec.name}"] = "" if value is None else str(value)
    return data | changes


def condition(setting: str = "open_conditions", group: int = 0, place: int = 0, **parts: str) -> dict[str, str]:
    given = {"indicator": "rsi", "timeframe": "5m", "operator": "<", "value": "30"} | parts
    return {f"t.{setting}.{group}.{place}.{part}": value for part, value in given.items()}


# Drawing ------------------------------------------------------------------------------------------------------------


def test_f42_every_setting_of_the_schema_is_in_the_form(browser: Client, account: Account, product: Product) -> None:
    response = browser.get("/bots/new/")
    assert offences(response) == []
    page = text(response)
    marks = {"conditions": 'id="tree-{}"', "steps": 'name="s.{}.3.profit_pct"'}
    for spec in field_specs(DcaSettings):
        assert marks.get(spec.kind, 'name="s.{}"').format(spec.name) in page
    for choice in ("Long", "Short", "Both"):
        assert f">{choice}</option>" in page.split('name="s.direction"')[1].split("</select>")[0]


def test_a_new_form_starts_from_the_template_asked_for(browser: Client, account: Account, bot: Bot) -> None:
    templates.seed_presets()
    draft = browser.get("/bots/new/?template=aggressive").context["draft"]
    assert (draft.name, draft.settings["take_profit_mode"]) == ("Aggressive", "trailing")
    assert browser.get("/bots/new/?template=unheard-of").status_code == 404
    like = browser.get(f"/bots/new/?like={bot.pk}").context["draft"]
    assert (like.name, like.symbols) == ("Dip ladder 2", ["BTC-USD"])


def test_the_edit_form_holds_the_bot_as_it_is(browser: Client, bot: Bot, product: Product) -> None:
    open_deal(bot, product)
    response = browser.get(f"/bots/{bot.pk}/edit/")
    assert offences(response) == []
    page = text(response)
    assert 'value="Dip ladder"' in page
    assert "locked to <b>USD</b>" in page
    assert "The 1 open deal keeps the settings it opened with." in page
    assert "This ladder" in page
    assert [row.name for row in response.context["form"].rows] == ["Base", "SO 1", "SO 2", "SO 3"]


def test_without_an_account_the_form_still_shows(client: Client) -> None:
    from tests.factories import UserFactory

    client.force_login(UserFactory())
    assert "No account yet" in text(client.get("/bots/new/"))


# Saving -------------------------------------------------------------------------------------------------------------


def test_a_bot_is_made_from_the_form(browser: Client, account: Account, product: Product) -> None:
    rule = condition() | condition(place=1, indicator="macd", operator="increasing", value="", negate="on")
    answer = browser.post("/bots/new/", sent(account, **rule), follow=True)
    assert "“New one” is ready" in text(answer)
    bot = everything(Bot).get()
    settings = DcaSettings.from_json(bot.settings)
    first, second = settings.open_conditions.items
    assert (first.indicator, first.value, second.indicator, second.negate) == ("rsi", 30, "macd", True)
    assert (bot.account_id, bot.budget_pct, bot.split_budget) == (account.pk, 50, True)


def test_a_bot_can_start_as_it_is_made(browser: Client, account: Account, product: Product) -> None:
    browser.post("/bots/new/", sent(account, action="save_start"))
    assert everything(Bot).get().is_running


def test_saving_an_unchanged_form_changes_nothing(browser: Client, bot: Bot) -> None:
    page = browser.get(f"/bots/{bot.pk}/edit/")
    draft = page.context["draft"]
    data = sent(bot.account, name=draft.name, budget_pct=draft.budget_pct)
    data |= {f"s.{name}": value for name, value in draft.settings.items()}
    answer = browser.post(f"/bots/{bot.pk}/edit/", data, follow=True)
    assert "Nothing changed." in text(answer)
    assert everything(Bot).get().settings_version == 1


def test_an_edit_is_saved_and_grows_the_version(browser: Client, bot: Bot) -> None:
    data = sent(bot.account, name="Renamed", **{"s.take_profit": "4,5"})
    browser.post(f"/bots/{bot.pk}/edit/", data)
    changed = everything(Bot).get()
    assert (changed.name, changed.settings["take_profit"], changed.settings_version) == ("Renamed", "4.5", 2)


@pytest.mark.parametrize(
    ("changes", "name", "message"),
    [
        ({"name": ""}, "name", "Give the bot a name."),
        ({"symbols": []}, "symbols", "Choose at least one pair."),
        ({"account": ""}, "account", "Choose an account."),
        ({"budget_pct": "lots"}, "budget_pct", "Enter a number."),
        ({"budget_pct": "0"}, "budget_pct", "The budget is 0 %"),
        ({"s.take_profit": "900"}, "take_profit", "Allowed are 0.1 to 500 %."),
        ({"s.take_profit": "NaN"}, "take_profit", "Enter a number."),
        ({"s.max_active_deals": "2.5"}, "max_active_deals", "Enter a whole number."),
        ({"s.max_active_deals": ""}, "max_active_deals", "Enter a number."),
        ({"s.stop_loss": "3"}, "stop_loss", "closer than the deepest safety order"),
        ({"s.direction": "sideways"}, "direction", "Choose one of long, short, both."),
        ({"s.min_volume_24h": "0"}, "min_volume_24h", "more than 0"),
        ({"s.allowed_categories": ["approved", "lucky"]}, "allowed_categories", "approved"),
        ({"s.slippage_guard": "on", "s.max_slippage": "9"}, "max_slippage", "Allowed are 0.01 to 5 %."),
        (
            {"s.take_profit_steps.0.profit_pct": "1", "s.take_profit_steps.0.share_pct": "40"},
            "take_profit_steps",
            "add up to 40 %",
        ),
        ({"s.take_profit_steps.1.profit_pct": "2"}, "take_profit_steps", "Step 2, share: Enter a number."),
        (
            {"s.take_profit_steps.0.profit_pct": "900", "s.take_profit_steps.0.share_pct": "100"},
            "take_profit_steps",
            "Step 1, profit: Allowed are 0.1 to 500 %.",
        ),
        (condition("short_open_conditions"), "short_open_conditions", "only with direction both"),
        (condition(value="low"), "open_conditions", "number"),
        (condition(indicator="tea_leaves"), "open_conditions", "tea_leaves"),
        (condition(p_period="1000000"), "open_conditions", "allowed are"),
    ],
)
def test_f23_what_is_wrong_stays_as_typed_with_the_reason_beside_it(
    browser: Client, account: Account, product: Product, changes: dict[str, Any], name: str, message: str
) -> None:
    response = browser.post("/bots/new/", sent(account, **changes))
    assert response.status_code == 422
    assert message in response.context["draft"].errors[name]
    assert message in text(response).replace("&#x27;", "'")
    assert not everything(Bot).exists()


def test_f27_a_rung_below_the_minimum_is_refused_naming_it(browser: Client, account: Account) -> None:
    ProductFactory(min_quote=60)
    changes = {"s.base_order_type": "fixed", "s.base_order_size": "70", "s.safety_order_size": "50"}
    response = browser.post("/bots/new/", sent(account, **changes))
    assert response.status_code == 422
    assert "BTC-USD: safety order 1:" in text(response)


def test_an_account_one_may_not_change_is_no_choice(browser: Client, account: Account, product: Product) -> None:
    foreign = AccountFactory(balances={"USD": 1000})
    response = browser.post("/bots/new/", sent(account, account=foreign.pk))
    assert response.status_code == 422
    assert not everything(Bot).exists()


# Settings that came with both directions -----------------------------------------------------------------------------

BOTH = {"s.direction": "both", "s.short_conditions": "own", "s.long_share_pct": "60"}
STEPS = {
    "s.take_profit_steps.0.profit_pct": "1",
    "s.take_profit_steps.0.share_pct": "40",
    "s.take_profit_steps.2.profit_pct": "2,5",
    "s.take_profit_steps.2.share_pct": "60",
}


def test_every_new_kind_of_setting_is_saved_and_shown_again(
    browser: Client, account: Account, product: Product
) -> None:
    rules = condition() | condition("short_open_conditions", indicator="bull_flag", operator="=", value="1")
    more = {
        "s.allowed_categories": ["meme", "approved"],
        "s.skip_stable_pairs": "on",
        "s.slippage_guard": "on",
        "s.max_slippage": "0.3",
        "s.min_volume_24h": "1000000",
        "s.safety_order_execution": "limit",
        "s.limit_timeout_seconds": "90",
    }
    browser.post("/bots/new/", sent(account, **BOTH, **STEPS, **more, **rules))
    bot = everything(Bot).get()
    settings = DcaSettings.from_json(bot.settings)
    assert [(str(step.profit_pct), str(step.share_pct)) for step in settings.take_profit_steps] == [
        ("1", "40"),
        ("2.5", "60"),
    ]
    assert (settings.allowed_categories, settings.skip_stable_pairs) == (("approved", "meme"), True)
    assert (str(settings.max_slippage), settings.safety_order_execution, settings.limit_timeout_seconds) == (
        "0.3",
        "limit",
        90,
    )
    assert [item.indicator for item in settings.short_open_conditions.items] == ["bull_flag"]
    response = browser.get(f"/bots/{bot.pk}/edit/")
    assert offences(response) == []
    page = text(response)
    for wanted in ("100 of 100 %", 'value="meme" checked', 'data-rest="s_long_share_pct">40<'):
        assert wanted in page
    again = {f"s.{name}": value for name, value in response.context["draft"].settings.items()}
    data = sent(account, name=bot.name, **STEPS, **rules) | again
    data |= {"s.allowed_categories": ["approved", "meme"]}
    browser.post(f"/bots/{bot.pk}/edit/", data)
    assert everything(Bot).get().settings_version == 1, "what the form shows is what is stored"


def test_both_sides_have_a_ladder_with_their_share_of_the_budget(
    browser: Client, account: Account, product: Product
) -> None:
    response = browser.post("/bots/preview/", sent(account, **BOTH, **STEPS))
    long, short = response.context["form"].sides
    assert (long.preview.budget, short.preview.budget) == (300, 200)
    assert long.rows[1].drop_pct < 0 < short.rows[1].drop_pct
    assert short.coins.currency == "BTC"
    assert 0 < short.coins.one_deal < short.coins.free == Decimal("0.5")
    page = text(response)
    for wanted in ("Long side", "Short side", "60 % of the budget", "Coins for one deal", "100 of 100 %"):
        assert wanted in page.replace("\u00a0", " ")


def test_a_short_side_without_coins_says_what_it_needs(browser: Client, trader: Any) -> None:
    account = AccountFactory(owner=trader, balances={"USD": 1000})
    ProductFactory()
    page = text(browser.post("/bots/preview/", sent(account, **{"s.direction": "short"})))
    assert "A short sells coins that the account holds: a whole deal needs" in page


def test_a_mirrored_rule_is_said_in_words(browser: Client, account: Account, product: Product) -> None:
    page = text(browser.post("/bots/preview/", sent(account, **{"s.direction": "both"}, **condition())))
    assert "Opens when RSI(14) on 5m is below 30. Short side, mirrored: RSI(14) on 5m is above 70." in page
    page = text(browser.post("/bots/preview/", sent(account, **{"s.direction": "short"}, **condition())))
    assert "Opens a short when RSI(14) on 5m is below 30." in page


def test_the_live_side_renews_what_each_condition_says_now(browser: Client, account: Account) -> None:
    from marketdata import services as market_services

    market_services.refresh_products("simulated")
    page = text(browser.post("/bots/preview/", sent(account, **condition(value="101"))))
    assert 'id="now-t-open_conditions-0-0" hx-swap-oob="true">now ' in page


def test_a_signal_chosen_in_place_of_another_indicator_asks_for_its_1(
    browser: Client, account: Account, product: Product
) -> None:
    rule = condition(indicator="bull_flag", was="rsi")
    (chosen,) = pressed(browser, account, "refresh", **rule).trees["open_conditions"].conditions
    assert (chosen.operator, chosen.value) == ("=", "1")
    rule = condition(indicator="bull_flag", was="bull_flag", operator="!=", value="0")
    (kept,) = pressed(browser, account, "refresh", **rule).trees["open_conditions"].conditions
    assert (kept.operator, kept.value) == ("!=", "0")


def test_rare_settings_are_behind_more_until_they_are_changed(
    browser: Client, account: Account, product: Product
) -> None:
    sections = {section.title: section for section in browser.get("/bots/new/").context["sections"]}
    assert sections["Filters"].is_folded
    assert not sections["Filters"].is_open
    assert not sections["Conditions of the short side"].applies
    answer = browser.post("/bots/new/", sent(account, action="refresh", **{"s.max_spread": "1"}, **STEPS, **BOTH))
    sections = {section.title: section for section in answer.context["sections"]}
    assert sections["Filters"].is_open
    assert sections["Filters"].summary == "set: widest spread"
    assert sections["Take profit"].rare_open
    assert sections["Conditions of the short side"].applies


def test_unsaved_settings_can_be_backtested(browser: Client, account: Account, product: Product) -> None:
    page = text(browser.get("/bots/new/"))
    button = page.split('value="backtest"')[1].split(">")[0]
    assert 'formaction="/backtests/new/"' in button


# The form's own buttons, without scripts ----------------------------------------------------------------------------


def pressed(browser: Client, account: Account, action: str, **more: Any) -> Any:
    response = browser.post("/bots/new/", sent(account, action=action, **more))
    assert response.status_code == 200
    assert not everything(Bot).exists()
    return response.context["draft"]


def test_pairs_are_added_and_removed_by_a_round_trip(browser: Client, account: Account, product: Product) -> None:
    ProductFactory(symbol="ETH-USD")
    assert pressed(browser, account, "add_pair", wanted_pair="eth").symbols == ["BTC-USD", "ETH-USD"]
    assert pressed(browser, account, "add_pair:ETH-USD").symbols == ["BTC-USD", "ETH-USD"]
    assert pressed(browser, account, "remove_pair:BTC-USD").symbols == []
    unknown = pressed(browser, account, "add_pair", wanted_pair="NOPE")
    assert "There is no pair NOPE" in unknown.errors["symbols"]
    assert unknown.wanted_pair == "NOPE"
    # What was typed and not added yet is not lost by saving.
    assert pressed(browser, account, "save", wanted_pair="ETH-USD").symbols == ["BTC-USD", "ETH-USD"]


def test_conditions_and_groups_are_added_and_removed_by_a_round_trip(
    browser: Client, account: Account, product: Product
) -> None:
    def shape(action: str) -> list[int]:
        rule = condition() | condition(group=1) | condition(group=1, place=1)
        draft = pressed(browser, account, action, **rule)
        return [len(group.conditions) for group in draft.trees["open_conditions"].groups]

    assert shape("refresh") == [1, 2]
    assert shape("add_condition:open_conditions:0") == [2, 2]
    assert shape("add_group:open_conditions") == [1, 2, 1]
    assert shape("remove_condition:open_conditions:1:0") == [1, 1]
    assert shape("remove_condition:open_conditions:0:0") == [2]
    assert shape("remove_group:open_conditions:1") == [1]
    for odd in (
        "remove_group:open_conditions:9",
        "add_condition:nothing:0",
        "remove_condition:open_conditions:0:x",
        ":::",
    ):
        assert shape(odd) == [1, 2]


def test_a_condition_shows_what_it_says_now(browser: Client, account: Account) -> None:
    from marketdata import services as market_services

    market_services.refresh_products("simulated")
    draft = pressed(browser, account, "refresh", **condition(value="101"))
    (shown,) = draft.trees["open_conditions"].conditions
    assert shown.check is not None
    assert (shown.check.state, 0 < (shown.check.value or 0) < 100) == ("met", True)


# The live side ------------------------------------------------------------------------------------------------------


def test_the_live_side_answers_with_ladder_checks_and_errors(
    browser: Client, account: Account, product: Product
) -> None:
    page = text(browser.post("/bots/preview/", sent(account)))
    assert "<html" not in page
    assert "SO 5" in page
    assert "Every order is above the largest minimum" in page
    wrong = text(browser.post("/bots/preview/", sent(account, **{"s.price_deviation": "99"})))
    assert 'id="err-price_deviation"' in wrong
    assert "Allowed are 0.1 to 20 %." in wrong
    assert not everything(Bot).exists()


def test_the_live_side_says_what_the_budget_funds(browser: Client, account: Account) -> None:
    ProductFactory(min_quote=20)
    changes = {"s.max_active_deals": "10", "s.max_safety_orders": "3", "s.safety_order_size": "100"}
    response = browser.post("/bots/preview/", sent(account, **changes))
    preview = response.context["form"].preview
    assert (preview.fundable, preview.deals) == (6, 10)  # 500 USD, 80 for each ladder of 4 × 20
    assert "fully funds 6 of 10 deals" in text(response)
    assert preview.is_workable  # fewer deals is a warning, not a refusal


def test_an_unknown_price_leaves_the_check_open_and_says_so(browser: Client, trader: Any) -> None:
    account = AccountFactory(owner=trader, exchange="coinbase", balances={"USD": 1000})
    ProductFactory(exchange="coinbase", symbol="GONE-USD")
    page = text(browser.post("/bots/preview/", sent(account, symbols=["GONE-USD"])))
    assert "No price is known for GONE-USD" in page


def test_pairs_with_two_quote_currencies_are_refused_at_once(
    browser: Client, account: Account, product: Product
) -> None:
    ProductFactory(symbol="ETH-BTC")
    page = text(browser.post("/bots/preview/", sent(account, symbols=["BTC-USD", "ETH-BTC"])))
    assert "One quote currency per bot" in page


def test_a_pair_with_an_open_deal_stays_managed_when_it_is_taken_away(
    browser: Client, bot: Bot, product: Product
) -> None:
    ProductFactory(symbol="ETH-USD")
    open_deal(bot, product)
    browser.post(f"/bots/{bot.pk}/edit/", sent(bot.account, symbols=["ETH-USD"]))
    assert set(everything(BotProduct).values_list("product__symbol", "enabled")) == {
        ("BTC-USD", False),
        ("ETH-USD", True),
    }
