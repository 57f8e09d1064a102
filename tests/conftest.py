"""What every test may use: nothing of the machine's own configuration."""

from __future__ import annotations

import os

import pytest

_AMBIENT = ("DATABASE_URL", "DB_", "PG", "NEURAKNOT_", "AWS_", "TF_", "GITHUB_", "ECS_", "ALEMBIC_")


@pytest.fixture(autouse=True)
def no_ambient_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches a database or an account that the machine happens to know."""
    for name in list(os.environ):
        if name.startswith(_AMBIENT):
            monkeypatch.delenv(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones begin first, so that none of them is what all others have to be waited for."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
