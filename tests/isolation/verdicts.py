"""What each address may show to whom, and why. A route without a verdict fails the proof, as a verdict without a
route does.

``own`` is the rule: the address names a row, and whoever may not see the row is told that there is none. Everything
else is an exemption with a reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

__all__ = ["PREFIXES", "VERDICTS", "Kind", "Verdict", "verdict_of"]


class Kind(Enum):
    """The classes of addresses."""

    OWN = "names a row"
    MINE = "shows or makes only what is the person's own"
    COMMON = "the same for everybody who is signed in"
    PUBLIC = "answers without a sign-in"
    STAFF = "for staff only"
    SECRET = "answers to a secret of its own, without a sign-in"


@dataclass(frozen=True)
class Verdict:
    """One verdict. ``row`` names the kind of row in the world that ``{pk}`` stands for.

    ``observer_may`` tells why an observer's request may do something all the same (never to the row), and
    ``observer_changes`` names the tables where that changes something of the account. ``more`` says what other
    parameters stand for.
    """

    kind: Kind
    reason: str
    row: str = ""
    observer_may: str = ""
    observer_changes: frozenset[str] = frozenset()
    more: tuple[tuple[str, Any], ...] = ()


def own(row: str, observer_may: str = "", observer_changes: Iterable[str] = (), **more: Any) -> Verdict:
    return Verdict(Kind.OWN, "names a row", row, observer_may, frozenset(observer_changes), tuple(more.items()))


def mine(reason: str, **more: Any) -> Verdict:
    return Verdict(Kind.MINE, reason, more=tuple(more.items()))


def common(reason: str) -> Verdict:
    return Verdict(Kind.COMMON, reason)


def public(reason: str) -> Verdict:
    return Verdict(Kind.PUBLIC, reason)


def by_secret(reason: str, **more: Any) -> Verdict:
    return Verdict(Kind.SECRET, reason, more=tuple(more.items()))


LEAVING: Final = {
    "observer_may": "gives up a share of their own",
    "observer_changes": ("accounts.Membership", "core.AuditEntry"),
}

VERDICTS: Final[dict[str, Verdict]] = {
    # Operation
    "healthz": public("supervisors ask whether the process answers; it says nothing else"),
    "metrics": public("collectors read a process's counters where the operator lets them; no ids, no names"),
    "readyz": public("load balancers ask whether it works; it names loops, never people"),
    # Pages
    "": mine("the dashboard's figures"),
    "ticker/": mine("prices of the market of the account in view"),
    "accounts/": mine("lists accounts"),
    "accounts/connect/": mine("connects an account of one's own by keys of one's own"),
    "accounts/new/": mine("opens an account of one's own"),
    "accounts/switch/": mine("chooses among accounts that one may see"),
    "accounts/{pk}/": own("account"),
    "accounts/{pk}/archive/": own("account"),
    "accounts/{pk}/arm/": own("account"),
    "accounts/{pk}/disarm/": own("account"),
    "accounts/{pk}/keys/": own("account"),
    "accounts/{pk}/keys/check/": own("account"),
    "accounts/{pk}/keys/remove/": own("account"),
    "accounts/{pk}/limits/": own("account"),
    "accounts/{pk}/sell-everything/": own("account"),
    "accounts/{pk}/auto-buy/": own("account"),
    "accounts/{pk}/auto-buy/remove/": own("account"),
    "accounts/{pk}/default/": own("account"),
    "accounts/{pk}/deposit/": own("account"),
    "accounts/{pk}/guard/limits/": own("account"),
    "accounts/{pk}/guard/release/": own("account"),
    "accounts/{pk}/guard/stop/": own("account"),
    "accounts/{pk}/leave/": own("account", **LEAVING),
    "accounts/{pk}/rename/": own("account"),
    "accounts/{pk}/reset/": own("account"),
    "accounts/{pk}/share/": own("account"),
    "accounts/{pk}/share/{user_id}/end/": own("account", user_id="sharer"),
    "accounts/{pk}/terms/": own("account"),
    "accounts/{pk}/withdraw/": own("account"),
    "backtests/": mine("lists backtests"),
    "backtests/compare/": mine("shows those of the named backtests that are one's own"),
    "backtests/history/": mine("lists downloads of candles"),
    "backtests/history/{pk}/cancel/": own("download"),
    "backtests/history/{pk}/remove/": own("download"),
    "backtests/new/": mine("asks for a backtest of a bot that one may see or of settings"),
    "backtests/sweeps/": mine("lists sweeps"),
    "backtests/sweeps/new/": mine("asks for a sweep of a bot that one may see or of settings"),
    "backtests/sweeps/points/{pk}/bot/": own("point"),
    "backtests/sweeps/points/{pk}/open/": own("point"),
    "backtests/sweeps/{pk}/": own("sweep"),
    "backtests/sweeps/{pk}/cancel/": own("sweep"),
    "backtests/sweeps/{pk}/delete/": own("sweep"),
    "backtests/{pk}/": own("backtest"),
    "backtests/{pk}/bot/": own("backtest"),
    "backtests/{pk}/cancel/": own("backtest"),
    "backtests/{pk}/candles/": own("backtest"),
    "backtests/{pk}/deals/{number}/": own("backtest", number="simulated_deal"),
    "backtests/{pk}/delete/": own("backtest"),
    "backtests/{pk}/export/{what}/": own("backtest", what="json"),
    "bots/": mine("lists bots"),
    "bots/import/": mine("makes a bot on an account that one may change"),
    "bots/new/": mine("makes a bot on an account that one may change"),
    "bots/preview/": mine("computes from what was typed and an account that one may see"),
    "bots/templates/{pk}/delete/": own("template"),
    "bots/{pk}/": own("bot"),
    "bots/{pk}/archive/": own("bot"),
    "bots/{pk}/assign/": own("bot"),
    "bots/{pk}/candles/{product_pk}/": own("bot", product_pk="product"),
    "bots/{pk}/cancel-all/": own("bot"),
    "bots/{pk}/clone/": own("bot"),
    "bots/{pk}/copy/": own("bot"),
    "bots/{pk}/edit/": own("bot"),
    "bots/{pk}/export/": own("bot"),
    "bots/{pk}/run/": own("bot"),
    "bots/{pk}/sell-all/": own("bot"),
    "bots/{pk}/signals/": own("bot"),
    "bots/{pk}/start/": own("bot"),
    "bots/{pk}/stop/": own("bot"),
    "bots/{pk}/template/": own("bot", observer_may="keeps settings that they can read, as a template of their own"),
    "deals/": mine("lists running deals"),
    "deals/{pk}/": own("position"),
    "deals/{pk}/add-funds/": own("position"),
    "deals/{pk}/bracket/": own("perp"),
    "deals/{pk}/cancel-add/": own("position"),
    "deals/{pk}/cancel/": own("position"),
    "deals/{pk}/ceiling/": own("position"),
    "deals/{pk}/chart/": own("position"),
    "deals/{pk}/close/": own("position"),
    "deals/{pk}/limit-close/": own("position"),
    "deals/{pk}/limit-close/cancel/": own("position"),
    "deals/{pk}/limit-close/change/": own("position"),
    "deals/{pk}/note/": own("position"),
    "deals/{pk}/orders.{kind}": own("position", kind="csv"),
    "deals/{pk}/settings/": own("position"),
    "deals/{pk}/ticker/": own("position"),
    "history/": mine("lists ended deals"),
    "hooks/{public_id}/": by_secret(
        "programs tell a bot something; its secret authorises, no session", public_id="hook"
    ),
    "history/export.{kind}": mine("exports ended deals", kind="csv"),
    "perps/": mine("lists positions in perpetuals"),
    "perps/{pk}/new/": own("account"),
    "perps/{pk}/settings/": own("account"),
    "orders/": mine("lists orders"),
    "outside-fills/": mine("lists executions at one's venues that no order explains"),
    "outside-fills/{pk}/explain/": own("unmatched"),
    "panic/{pk}/": own("panic"),
    "stop-trading/": mine("stops accounts that one may change"),
    "orders/export.{kind}": mine("exports orders", kind="csv"),
    "portfolio/": mine("what accounts hold that one may see"),
    "portfolio/accounts/{pk}/convert/": own("account"),
    "portfolio/accounts/{pk}/sell/": own("account"),
    "portfolio/accounts/{pk}/left-out/": own("account"),
    "portfolio/accounts/{pk}/transfers/": own("account"),
    "portfolio/transfers/{pk}/remove/": own("transfer"),
    "settings/": mine("one's own settings"),
    "settings/api/": mine("one's own token"),
    "settings/coins/": mine("one's own reviews of coins, beside public ones"),
    "settings/security/": mine("one's own sign-in"),
    "settings/theme/": mine("one's own settings"),
    # API
    "api/": common("names the resources"),
    "api/accounts/": mine("lists accounts, opens one of one's own"),
    "api/accounts/connect/": mine("connects an account of one's own by keys of one's own"),
    "api/accounts/{pk}/": own("account"),
    "api/accounts/{pk}/arm/": own("account"),
    "api/accounts/{pk}/check-keys/": own("account"),
    "api/accounts/{pk}/disarm/": own("account"),
    "api/accounts/{pk}/keys/": own("account"),
    "api/accounts/{pk}/limits/": own("account"),
    "api/accounts/{pk}/auto-buy/": own("account"),
    "api/accounts/{pk}/auto-buy/decisions/": own("account"),
    "api/accounts/{pk}/auto-buy/remove/": own("account"),
    "api/accounts/{pk}/deposit/": own("account"),
    "api/accounts/{pk}/entries/": own("account"),
    "api/accounts/{pk}/guard/": own("account"),
    "api/accounts/{pk}/guard/equity/": own("account"),
    "api/accounts/{pk}/guard/history/": own("account"),
    "api/accounts/{pk}/guard/release/": own("account"),
    "api/accounts/{pk}/guard/stop/": own("account"),
    "api/accounts/{pk}/leave/": own("account", **LEAVING),
    "api/accounts/{pk}/perps-settings/": own("account"),
    "api/accounts/{pk}/reset/": own("account"),
    "api/accounts/{pk}/withdraw/": own("account"),
    "api/backtests/": mine("lists backtests, makes one of a bot that one may see or of settings"),
    "api/backtests/compare/": mine("shows those of the named backtests that are one's own"),
    "api/backtests/{pk}/": own("backtest"),
    "api/backtests/{pk}/cancel/": own("backtest"),
    "api/backtests/{pk}/deals/": own("backtest"),
    "api/backtests/{pk}/export/{kind}/": own("backtest", kind="backtest.json"),
    "api/balances/": mine("the balances of accounts that one may see"),
    "api/bots/": mine("lists bots, makes one on an account that one may change"),
    "api/bots/import/": mine("makes a bot on an account that one may change"),
    "api/bots/preview/": mine("computes from what was sent and an account that one may change"),
    "api/bots/settings-schema/": common("what the strategies' settings mean"),
    "api/bots/{pk}/": own("bot"),
    "api/bots/{pk}/archive/": own("bot"),
    "api/bots/{pk}/assign/": own("bot"),
    "api/bots/{pk}/bulk-preview/": own("bot"),
    "api/bots/{pk}/cancel-all/": own("bot"),
    "api/bots/{pk}/clone/": own("bot"),
    "api/bots/{pk}/copy/": own("bot"),
    "api/bots/{pk}/decisions/": own("bot"),
    "api/bots/{pk}/export/": own("bot"),
    "api/bots/{pk}/hook/": own("bot"),
    "api/bots/{pk}/signals/": own("bot"),
    "api/bots/{pk}/run-now/": own("bot"),
    "api/bots/{pk}/sell-all/": own("bot"),
    "api/bots/{pk}/start/": own("bot"),
    "api/bots/{pk}/stop/": own("bot"),
    "api/coin-reviews/": mine("lists and makes one's own reviews of coins"),
    "api/coin-reviews/effective/": mine("coins with one's own word or the operator's"),
    "api/coin-reviews/{pk}/": own("coin_review"),
    "api/docs/": common("documentation"),
    "api/events/": mine("lists what happened"),
    "api/events/{pk}/": own("event"),
    "api/fills/": mine("lists fills"),
    "api/fills/{pk}/": own("fill"),
    "api/history/": mine("lists downloads of candles, asks for one"),
    "api/history/coverage/": common("public market data"),
    "api/history/{pk}/": own("download"),
    "api/history/{pk}/cancel/": own("download"),
    "api/left-out/": mine("lists what is left out, leaves a currency of an account out that one may change"),
    "api/left-out/{pk}/": own("left_out"),
    "api/orders/": mine("lists orders"),
    "api/outside-fills/": mine("lists executions at one's venues that no order explains"),
    "api/outside-fills/{pk}/": own("unmatched"),
    "api/outside-fills/{pk}/explain/": own("unmatched"),
    "api/panic-runs/": mine("lists panic sales, starts one of an account of one's own"),
    "api/panic-runs/{pk}/": own("panic"),
    "api/stop-trading/": mine("stops accounts that one may change"),
    "api/orders/{pk}/": own("order"),
    "api/pnl/": mine("what the deals earned that one may see"),
    "api/portfolio/": mine("what accounts hold that one may see"),
    "api/portfolio/convert/": mine("converts what is free on an account that one may change"),
    "api/portfolio/sell/": mine("sells what is free on an account that one may change"),
    "api/positions/": mine("lists deals"),
    "api/positions/{pk}/": own("position"),
    "api/positions/open-perp/": mine("opens a position on an account that one may change"),
    "api/positions/{pk}/add-funds/": own("position"),
    "api/positions/{pk}/cancel-add-funds/": own("position"),
    "api/positions/{pk}/cancel-limit-close/": own("position"),
    "api/positions/{pk}/cancel/": own("position"),
    "api/positions/{pk}/close-preview/": own("position"),
    "api/positions/{pk}/close/": own("position"),
    "api/positions/{pk}/limit-close/": own("position"),
    "api/positions/{pk}/modify-tp-sl/": own("perp"),
    "api/positions/{pk}/perp/": own("perp"),
    "api/positions/{pk}/resize/": own("position"),
    "api/positions/{pk}/settings/": own("position"),
    "api/positions/{pk}/slippage-check/": own("position"),
    "api/positions/{pk}/ticker/": own("position"),
    "api/positions/{pk}/update-limit-close/": own("position"),
    "api/products/": common("public market data"),
    "api/products/{pk}/": common("public market data"),
    "api/products/{pk}/candles/": common("public market data"),
    "api/products/{pk}/ticker/": common("public market data"),
    "api/schema/": common("documentation"),
    "api/snapshots/": mine("lists daily values"),
    "api/snapshots/{pk}/": own("snapshot"),
    "api/socket-ticket/": mine("a ticket for one's own socket"),
    "api/sweeps/": mine("lists sweeps, makes one of a bot that one may see or of settings"),
    "api/sweeps/{pk}/": own("sweep"),
    "api/sweeps/{pk}/cancel/": own("sweep"),
    "api/sweeps/{pk}/heat-map/": own("sweep"),
    "api/sweeps/{pk}/open-point/": own("sweep"),
    "api/sweeps/{pk}/points/": own("sweep"),
    "api/templates/": mine("lists presets and own templates"),
    "api/templates/{pk}/": own("template"),
    "api/transfers/": mine("lists transfers, enters one of an account that one may change"),
    "api/transfers/{pk}/": own("transfer"),
    "api/token/": mine("one's own token, for one's own password"),
}

PREFIXES: Final[dict[str, Verdict]] = {
    "admin/": Verdict(Kind.STAFF, "the operator's pages"),
    "auth/": public("signing in and one's own sign-in; the library answers for the person of the session alone"),
}
"""Verdicts on the addresses that libraries bring."""


def verdict_of(template: str) -> Verdict | None:
    """Return the verdict on the route, or None where nobody gave one."""
    return VERDICTS.get(template) or next(
        (verdict for prefix, verdict in PREFIXES.items() if template.startswith(prefix)), None
    )
