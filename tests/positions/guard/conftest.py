"""The desk of a prop firm's trader."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.positions.guard.firm import Firm, firm


@pytest.fixture
def desk(db: None) -> Iterator[Firm]:
    with firm() as made:
        yield made
