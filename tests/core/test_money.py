"""Amounts are exact on both databases: stored, compared, ordered and summed by value."""

from __future__ import annotations

from decimal import Context, Decimal, localcontext

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import Sum
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import Account, PaperBalance, User
from tradebot.core.decimals import MONEY, ceil_to, dec, floor_to, for_money, from_float, plain
from tradebot.core.money import AmountField, AmountSum, amount_total
from tradebot.core.scoping import all_accounts

BIG = Decimal("12345678901234567890.123456789012345678")


@pytest.fixture
def amounts(db):
    with all_accounts("test data"):
        account = Account.objects.create(
            owner=User.objects.create_user("a@example.test"), name="a", exchange="simulated"
        )
        for number, text in enumerate([BIG, Decimal("0.1"), Decimal("0.2"), Decimal(9), Decimal(10)]):
            PaperBalance.objects.create(account=account, currency=f"C{number}", total=text)
        yield PaperBalance.objects.all()


def test_thirty_eight_digits_survive_the_database(amounts):
    assert amounts.get(currency="C0").total == BIG


def test_amounts_compare_and_order_by_value_not_by_text(amounts):
    assert list(amounts.order_by("total").values_list("currency", flat=True)) == ["C1", "C2", "C3", "C4", "C0"]
    assert amounts.filter(total__gt=Decimal("9.5")).count() == 2
    assert amounts.filter(total=Decimal("0.10")).count() == 1


def test_sums_are_exact(amounts):
    assert amounts.filter(currency__in=["C1", "C2"]).aggregate(s=AmountSum("total"))["s"] == Decimal("0.3")
    assert amounts.aggregate(s=AmountSum("total"))["s"] == BIG + Decimal("19.3")
    assert amounts.filter(currency="none").aggregate(s=amount_total("total"))["s"] == 0


def test_a_sum_through_float_is_refused_where_the_database_would_make_one(amounts):
    if connection.vendor == "sqlite":
        with pytest.raises(TypeError, match="AmountSum"):
            amounts.aggregate(s=Sum("total"))
    else:
        assert amounts.aggregate(s=Sum("total"))["s"] == BIG + Decimal("19.3")


def test_floats_and_what_is_not_finite_are_refused():
    field = AmountField()
    with pytest.raises(TypeError):
        field.to_python(0.1)
    for text in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(ValidationError):
            field.clean(text, None)
        with pytest.raises(ValueError, match="finite"):
            dec(text)
    with pytest.raises(TypeError):
        dec(0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="number"):
        dec("12,5")
    with pytest.raises(ValueError, match="20 digits"):
        field.get_db_prep_value(Decimal("1e21"), connection)


def test_decimals_never_mix_with_floats_in_arithmetic():
    with pytest.raises(TypeError):
        Decimal("0.1") + 0.1  # type: ignore[operator]
    with pytest.raises(ArithmeticError):
        assert Decimal("0.1") < 0.2


STEPS = st.sampled_from(
    [Decimal(text) for text in ("1", "0.01", "0.10", "0.1", "1.00", "1e-8", "0.0005", "25", "10", "1e1", "100.0")]
)


@given(st.decimals(min_value=0, max_value=Decimal("1e12"), places=18), STEPS)
def test_f24_floor_never_exceeds_and_loses_less_than_a_step(value, step):
    floored = floor_to(value, step)
    assert floored <= value < floored + step
    assert floored % step == 0
    assert value <= ceil_to(value, step) < value + step


@pytest.mark.parametrize("increment", ["0", "-0.01", "-1"])
def test_an_increment_is_above_zero(increment):
    with pytest.raises(ValueError, match="above zero"):
        floor_to(Decimal(1), Decimal(increment))


def test_operators_count_money_exactly_whatever_the_thread_counted_with_before():
    third = MONEY.divide(Decimal(1), Decimal(3))
    with localcontext(Context(prec=6)):
        with for_money():
            assert Decimal(1) / Decimal(3) == third
        assert Decimal(1) / Decimal(3) == Decimal("0.333333")
    with localcontext(MONEY), for_money():
        assert Decimal(1) / Decimal(3) == third


def test_a_candle_price_becomes_money_at_the_products_increment():
    assert from_float(5.330000000000001e-05, Decimal("1e-8")) == Decimal("0.00005330")
    assert plain(Decimal("5.330E-5")) == "0.0000533"
    assert plain(Decimal("100")) == "100"
    assert plain(Decimal("0E-18")) == "0"
