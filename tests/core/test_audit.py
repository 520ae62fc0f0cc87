"""Audit entries belong to the owner of the thing, whoever acted."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from accounts.access import acting_for
from tests.factories import AccountFactory, UserFactory
from tradebot.core import audit
from tradebot.core.models import AuditEntry
from tradebot.core.scoping import acting_for_account

pytestmark = pytest.mark.django_db


def test_an_entry_written_in_an_accounts_scope_is_seen_by_its_person_only() -> None:
    account = AccountFactory()
    with acting_for_account(account.pk):
        audit.record(account.owner_id, "system", "tested", f"account:{account.pk}")
    with acting_for(account.owner):
        assert AuditEntry.objects.get().actor == "system"
    with acting_for(UserFactory()):
        assert not AuditEntry.objects.exists()


def test_numbers_and_times_are_kept_readable() -> None:
    user = UserFactory()
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    audit.record(user.pk, "me", "tested", "x" * 500, amount=Decimal("1.50"), parts=(Decimal("1E-8"), None), at=moment)
    with acting_for(user):
        entry = AuditEntry.objects.get()
    assert entry.detail == {"amount": "1.5", "parts": ["0.00000001", None], "at": "2026-01-02T00:00:00+00:00"}
    assert len(entry.target) == 120
