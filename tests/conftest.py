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
