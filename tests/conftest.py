"""What every test may use: nothing of the machine's own configuration."""

from __future__ import annotations

import gc
import os

import pytest

_AMBIENT = ("DATABASE_URL", "DB_", "PG", "NEURAKNOT_", "AWS_", "TF_", "GITHUB_", "ECS_", "ALEMBIC_")


@pytest.fixture(autouse=True)
def no_ambient_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches a database or an account that the machine happens to know."""
    for name in list(os.environ):
        if name.startswith(_AMBIENT):
            monkeypatch.delenv(name)


def pytest_collection_finish() -> None:
    """What was imported and collected stays: it need not be searched for garbage again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--fast`, for `make test-fast`."""
    parser.addoption("--fast", action="store_true", help="each test once that is neither slow nor needs Docker")


@pytest.hookimpl(trylast=True)  # when every conftest.py has set its marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The slow ones begin first, so that none of them is what all others have to be waited for."""
    if config.getoption("--fast"):
        first: dict[str, pytest.Item] = {}
        for item in items:
            if not (item.get_closest_marker("slow") or item.get_closest_marker("docker")):
                first.setdefault(item.nodeid.split("[")[0], item)
        chosen = set(first.values())
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = first.values()
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
