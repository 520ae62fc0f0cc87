"""What accounts hold, are worth and earned, as the API shows it. Amounts are strings with at most 18 places."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from rest_framework import serializers

from accounts.models import Account, LeftOut, Transfer, ValueSnapshot
from positions.portfolio.holdings import DISPLAY
from positions.portfolio.pnl import CalendarPeriod
from tradebot.core.api import AmountSerializerField, ModelSerializer, Serializer
from tradebot.core.decimals import quantize

__all__ = [
    "BalancesSerializer",
    "LeftOutSerializer",
    "NewLeftOutSerializer",
    "NewTransferSerializer",
    "PnlQuerySerializer",
    "PnlSerializer",
    "PortfolioQuerySerializer",
    "PortfolioSerializer",
    "TransferSerializer",
    "ValueSnapshotSerializer",
]

MONEY: Final = [("live", "real money"), ("paper", "pretend money")]


class FigureField(AmountSerializerField):
    """A figure that was worked out: rounded to the places that stored amounts have."""

    def to_representation(self, value: Any) -> Any:
        return None if value is None else super().to_representation(quantize(Decimal(value)))


# Asking ---------------------------------------------------------------------------------------------------------------


class _AccountQuerySerializer(Serializer):
    account = serializers.IntegerField(
        required=False, min_value=1, max_value=2**63 - 1, help_text="Default: all accounts but archived ones."
    )


class PortfolioQuerySerializer(_AccountQuerySerializer):
    """Which accounts, and which currency values are shown in."""

    currency = serializers.ChoiceField(choices=DISPLAY, default="USD", help_text="For display only.")


class PnlQuerySerializer(_AccountQuerySerializer):
    """Which accounts, and how many days one by one."""

    days = serializers.IntegerField(min_value=1, max_value=366, default=30)


# Holdings -------------------------------------------------------------------------------------------------------------


class WorthSerializer(serializers.Serializer[Any]):
    """What accounts are worth together, and what is not in it."""

    currency = serializers.CharField()
    amount = FigureField(allow_null=True, help_text="The sum of what is known; null: nothing is.")
    is_partial = serializers.BooleanField(help_text="Something is held, or may be, that has no known value.")
    unpriced = serializers.ListField(child=serializers.CharField(), help_text="Currencies without a price.")
    unknown = serializers.ListField(child=serializers.CharField(), help_text="Accounts with unknown balances.")
    stale = serializers.ListField(child=serializers.CharField(), help_text="Accounts with old balances.")
    left_out = serializers.ListField(child=serializers.CharField(), help_text="Not counted, as the owner wants it.")


class _AmountsSerializer(serializers.Serializer[Any]):
    currency = serializers.CharField()
    is_money = serializers.BooleanField(help_text="Pairs are quoted in it, so it needs no deal to explain it.")
    total = FigureField(help_text="All that is held, locked and staked amounts included.")
    in_orders = FigureField(help_text="Claimed by working orders.")
    in_deals = FigureField(allow_null=True, help_text="Needed by open deals beyond that; null: not known.")
    free = FigureField(allow_null=True, help_text="The rest; null: not known.")
    untracked = FigureField(help_text="Held, and explained by no deal or order; always 0 for money.")
    missing = FigureField(help_text="What open deals count on and the account does not have.")
    left_out = serializers.BooleanField(help_text="Not counted in what the account is worth.")


class BalanceSerializer(_AmountsSerializer):
    """One currency of one account."""

    account = serializers.IntegerField()
    price = FigureField(allow_null=True, help_text="In the display currency; null: not known.")
    value = FigureField(allow_null=True, help_text="In the display currency; null: not known.")


class AsOfSerializer(serializers.Serializer[Any]):
    """As of when an account's balances are known."""

    account = serializers.IntegerField(source="account.pk")
    name = serializers.CharField(source="account.name")
    money = serializers.SerializerMethodField(help_text="live or paper")
    is_known = serializers.BooleanField(help_text="False: its venue never said what it holds.")
    is_stale = serializers.BooleanField(help_text="Too old to be taken for the present.")
    as_of = serializers.DateTimeField(source="told.at", allow_null=True)
    age_seconds = serializers.IntegerField(allow_null=True)
    error = serializers.CharField(source="told.error", help_text="Why the venue last did not answer.")

    def get_money(self, row: Any) -> str:
        return "paper" if row.account.is_paper else "live"


class BalancesSerializer(serializers.Serializer[Any]):
    """What accounts hold, by account and currency. An account that is not known has no balances, which is not zero."""

    currency = serializers.CharField()
    balances = BalanceSerializer(many=True)
    accounts = AsOfSerializer(many=True)


class LineSerializer(_AmountsSerializer):
    """One currency over all accounts of a group."""

    accounts = serializers.SerializerMethodField(help_text="Ids of the accounts that hold it.")
    price = FigureField(allow_null=True)
    value = FigureField(allow_null=True)
    is_partial = serializers.BooleanField(help_text="Some of it has no known price.")
    untracked_value = FigureField(allow_null=True)
    share_pct = FigureField(allow_null=True, help_text="Of everything that is counted.")

    def get_accounts(self, row: Any) -> list[int]:
        return [account.pk for account in row.accounts]


class BucketSerializer(serializers.Serializer[Any]):
    """One quote currency: what accounts have of it, and their open deals quoted in it."""

    quote = serializers.CharField()
    total = FigureField()
    free = FigureField(allow_null=True)
    deals = serializers.IntegerField(help_text="Open deals that hold something.")
    in_deals_value = FigureField(allow_null=True, help_text="Worth of those deals, in the quote currency.")
    value = FigureField(allow_null=True, help_text="In the quote currency: what budgets are percentages of.")
    shown = FigureField(allow_null=True, help_text="The same in the display currency.")


class UntrackedSerializer(serializers.Serializer[Any]):
    """Coins that no deal explains, and what the books say about them."""

    account = serializers.IntegerField(source="account.pk")
    currency = serializers.CharField()
    amount = FigureField()
    kept = FigureField(help_text="Kept by deals that were cancelled.")
    transferred = FigureField(help_text="Came in from outside, less what went out.")
    traded = FigureField(help_text="Bought at the venue outside Tradebot, less what was sold.")
    unexplained = FigureField()


class GainSerializer(serializers.Serializer[Any]):
    """What was earned since a moment: the change in value less what was put in."""

    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    first = FigureField()
    last = FigureField()
    put_in = FigureField(allow_null=True, help_text="Deposits less withdrawals; null: a value is not known.")
    amount = FigureField(allow_null=True)
    pct = FigureField(allow_null=True, help_text="Time-weighted, percent.")


class MoneyGroupSerializer(serializers.Serializer[Any]):
    """Accounts of one kind of money; live and paper never meet in a figure."""

    money = serializers.ChoiceField(source="kind", choices=MONEY)
    worth = WorthSerializer()
    gain = GainSerializer(allow_null=True, help_text="Since the first snapshot; null before there are two readings.")
    holdings = LineSerializer(many=True)
    buckets = BucketSerializer(many=True)
    untracked = UntrackedSerializer(many=True)
    accounts = AsOfSerializer(many=True)


class PortfolioSerializer(serializers.Serializer[Any]):
    """What accounts hold and are worth, by kind of money."""

    currency = serializers.CharField()
    groups = MoneyGroupSerializer(many=True)


# Profit ---------------------------------------------------------------------------------------------------------------


class RateSerializer(serializers.Serializer[Any]):
    """How many closed deals won."""

    deals = serializers.IntegerField()
    won = serializers.IntegerField()
    pct = FigureField(allow_null=True)


class EarnedSerializer(serializers.Serializer[Any]):
    """What the deals that ended in a period earned, net of fees."""

    period = serializers.ChoiceField(choices=[(word.value, word.value) for word in CalendarPeriod])
    first = serializers.DateField(source="span.first", allow_null=True)
    last = serializers.DateField(source="span.last")
    days = serializers.IntegerField(source="span.days", allow_null=True)
    profit = FigureField()
    fees = FigureField()
    deals = serializers.IntegerField()
    per_day = FigureField(allow_null=True, help_text="Over the whole period, idle days included.")
    strategy = RateSerializer(source="win_rates.strategy")
    manual = RateSerializer(source="win_rates.manual")


class OpenSerializer(serializers.Serializer[Any]):
    """Running deals. Those without a price are counted and in no sum."""

    deals = serializers.IntegerField(source="totals.deals")
    unpriced = serializers.IntegerField(source="totals.unpriced")
    invested = FigureField(source="totals.invested")
    value = FigureField(source="totals.value")
    unrealised = FigureField(source="totals.profit", help_text="Net of fees paid and to be paid.")
    realised = FigureField(help_text="What parts of them have realised already.")


class DayProfitSerializer(serializers.Serializer[Any]):
    """One day of the person's own time zone."""

    day = serializers.DateField()
    profit = FigureField()
    fees = FigureField()
    deals = serializers.IntegerField()


class QuotePnlSerializer(serializers.Serializer[Any]):
    """Profit and loss in one quote currency."""

    quote = serializers.CharField()
    open = OpenSerializer()
    periods = EarnedSerializer(many=True)
    days = DayProfitSerializer(many=True)


class KindPnlSerializer(serializers.Serializer[Any]):
    """Profit and loss of one kind of money, by quote currency."""

    money = serializers.ChoiceField(source="kind", choices=MONEY)
    quotes = QuotePnlSerializer(many=True)


class PnlSerializer(serializers.Serializer[Any]):
    """Profit and loss by calendar period, in the person's own time zone."""

    zone = serializers.CharField()
    as_of = serializers.DateTimeField()
    groups = KindPnlSerializer(many=True)


# Rows -----------------------------------------------------------------------------------------------------------------


class TransferSerializer(ModelSerializer):
    """Money that came into an account (above zero) or left it."""

    class Meta:
        model = Transfer
        fields = [
            "id",
            "account",
            "external_id",
            "currency",
            "amount",
            "at",
            "value_usd",
            "value_btc",
            "source",
            "note",
        ]
        read_only_fields = fields


class NewTransferSerializer(Serializer):
    """A transfer to enter by hand, where the venue does not list them."""

    account = serializers.PrimaryKeyRelatedField(queryset=Account.objects.editable())
    currency = serializers.CharField(max_length=20)
    amount = AmountSerializerField(help_text="Above zero: came in. Below: went out.")
    at = serializers.DateTimeField(help_text="In the past.")
    note = serializers.CharField(max_length=200, required=False, allow_blank=True)


class ValueSnapshotSerializer(ModelSerializer):
    """What an account was worth on one day."""

    class Meta:
        model = ValueSnapshot
        fields = [
            "id",
            "account",
            "date",
            "taken_at",
            "value_usd",
            "value_btc",
            "by_currency",
            "complete",
            "left_out",
        ]
        read_only_fields = fields


class LeftOutSerializer(ModelSerializer):
    """A currency that is not counted in what an account is worth."""

    class Meta:
        model = LeftOut
        fields = ["id", "account", "currency", "created_at"]
        read_only_fields = fields


class NewLeftOutSerializer(Serializer):
    """A currency to leave out."""

    account = serializers.PrimaryKeyRelatedField(queryset=Account.objects.editable())
    currency = serializers.CharField(max_length=20)
