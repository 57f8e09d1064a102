"""The log: a row for whatever was tried here, by whom, and never a secret."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from neuraknot_db import __version__
from tests.db.cli.test_bad_input import SCHEMA, said
from tests.db.conftest import Database, Project
from tests.db.running import MIGRATOR, held, log_of, running, wait_until
from tests.db.schemas import old_schema
from tests.projects import PROJECT

ARN = "arn:aws:ecs:ap-northeast-1:123456789012:task/neuraKnot-prod-cluster/0123456789abcdef0123456789abcdef"
WHAT = "revision, direction, outcome, attempt"


def last(database: Database, number: int = 1, columns: str = WHAT) -> list[tuple[object, ...]]:
    return log_of(database, columns)[-number:]


def test_upgrades_and_downgrades(database: Database) -> None:
    assert database.alembic("upgrade", "head").code == 0
    assert database.alembic("downgrade", "-2").code == 0
    rows = log_of(database, f"{WHAT}, error, checksum IS NOT NULL, source_sha256 ~ '^[0-9a-f]{{64}}$'")
    assert rows == [
        *((revision, "upgrade", "succeeded", 1, None, True, True) for revision in ("001", "002", "003", "004")),
        *((revision, "downgrade", "succeeded", 1, None, False, None) for revision in ("004", "003")),
    ]
    assert database.value(
        "SELECT bool_and(started_at BETWEEN now() - interval '5 min' AND now() AND duration_ms BETWEEN 0 AND 60000"
        f" AND database_user = 'postgres' AND tool_version = '{__version__}') FROM neuraknot_db.migration_log"
    )


def test_a_failed_attempt_leaves_its_row_although_it_was_rolled_back(
    database_at_head: Database, project: Project
) -> None:
    project.add("005", "CREATE TABLE public.five (); SELECT 1/0", after="004")
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 7
    assert last(database_at_head, columns=f"{WHAT}, error") == [
        ("005", "upgrade", "failed", 1, "Revision 005 failed and was rolled back: division by zero.")
    ]


@pytest.mark.slow
def test_stamp_mark_and_reset(database_at_head: Database) -> None:
    name = database_at_head.name
    assert database_at_head.alembic("stamp", "003").code == 0
    assert last(database_at_head) == [("003", "stamp", "succeeded", 1)]
    assert database_at_head.neuraknot_db("mark", "dev").code == 0
    assert last(database_at_head) == [(None, "mark", "succeeded", 1)]
    assert database_at_head.neuraknot_db("reset", "--confirm", name).code == 0
    assert [row[:3] for row in last(database_at_head, 5)] == [
        (None, "reset", "succeeded"),
        *((revision, "upgrade", "succeeded") for revision in ("001", "002", "003", "004")),
    ]


@pytest.mark.slow
def test_the_log_outlives_a_reset_and_a_reset_that_fails_is_in_it(database_at_head: Database, project: Project) -> None:
    before = log_of(database_at_head, "*")
    project.add("005", "SELECT 1/0", after="004")
    done = database_at_head.neuraknot_db("reset", "--confirm", database_at_head.name, cwd=project.root)
    assert done.code == 7, done.err
    assert log_of(database_at_head, "*")[:-1] == before
    assert last(database_at_head, columns=f"{WHAT}, error") == [
        (None, "reset", "failed", 1, "Revision 005 failed and was rolled back: division by zero.")
    ]
    with held(database_at_head, "SELECT count(*) FROM public.users"):
        environ = {"NEURAKNOT_LOCK_TIMEOUT": "50ms", "NEURAKNOT_LOCK_PAUSE": "50ms", "NEURAKNOT_LOCK_TRIES": "2"}
        reset = ("reset", "--confirm", database_at_head.name)
        assert database_at_head.neuraknot_db(*reset, cwd=PROJECT, **environ).code == 4
    assert last(database_at_head, 2) == [(None, "reset", "failed", 1), (None, "reset", "failed", 2)]


def test_adopt(database: Database) -> None:
    database.run(old_schema("002"))
    assert database.neuraknot_db("adopt", "--dry-run").code == 0
    assert database.value("SELECT to_regnamespace('neuraknot_db')") is None
    assert database.neuraknot_db("adopt").code == 0
    assert last(database) == [("002", "adopt", "succeeded", 1)]
    done = database.alembic("upgrade", "head")
    assert done.code == 0, done.err
    assert last(database, 2) == [("003", "upgrade", "succeeded", 1), ("004", "upgrade", "succeeded", 1)]


@pytest.fixture
def metadata() -> Iterator[str]:
    """Where ECS tells a container about its task."""

    class Metadata(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"Cluster": "c", "TaskARN": ARN}).encode() if self.path == "/v4/abc/task" else b"{}"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Metadata) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v4/abc"
        server.shutdown()
        thread.join()


ORIGIN = {
    "NEURAKNOT_IMAGE": f"123456789012.dkr.ecr.ap-northeast-1.amazonaws.com/neuraknot-prod-migrate@sha256:{'5f' * 32}",
    "NEURAKNOT_GIT_COMMIT": "0123456789abcdef0123456789abcdef01234567",
    "NEURAKNOT_STARTED_BY": "hanako@ci",
}


@pytest.mark.slow
def test_what_the_launcher_passes_on_is_kept_and_shown(database: Database, metadata: str) -> None:
    environ = {**ORIGIN, "ECS_CONTAINER_METADATA_URI_V4": metadata}
    assert database.alembic("upgrade", "001", cwd=PROJECT, **environ).code == 0
    assert database.alembic("upgrade", "002").code == 0
    columns = "image, git_commit, started_by, task_arn, client_host"
    host = os.uname().nodename
    assert log_of(database, columns) == [(*ORIGIN.values(), ARN, host), (None, None, None, None, host)]

    shown = database.neuraknot_db("log")
    assert (shown.code, max(map(len, shown.out.splitlines())) <= 80) == (0, True), shown.out
    for words in ("hanako@ci", "commit 0123456789ab\n", "image sha256:5f5f5f5f5f5f ", f"task {ARN[-32:]}"):
        assert words in shown.out
    first, second = json.loads(database.neuraknot_db("log", "--json").out)
    assert (first["revision"], first["task_arn"], second["revision"], second["task_arn"]) == ("001", ARN, "002", None)
    assert first["image"] == ORIGIN["NEURAKNOT_IMAGE"]


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1/v4/x", "file:///etc/passwd", "nonsense"])
def test_no_answer_from_ecs_is_no_reason_to_fail(database: Database, uri: str) -> None:
    done = database.alembic("upgrade", "head", ECS_CONTAINER_METADATA_URI_V4=uri)
    assert done.code == 0, done.err
    assert log_of(database, "task_arn") == [(None,)] * 4


def test_there_is_no_log_yet(database: Database) -> None:
    assert database.neuraknot_db("log", "--json").out == "[]\n"
    done = database.neuraknot_db("log")
    assert (done.code, done.out, done.err) == (0, "", "nothing was run here by this tool\n")
    assert database.value("SELECT to_regnamespace('neuraknot_db')") is None


@pytest.mark.slow
def test_a_password_is_nowhere(database: Database, project: Project) -> None:
    secret = "planted p@ss/w'rd%"
    sql = f"DO $$ BEGIN RAISE 'could not log in with %', $q${secret}$q$; END $$"
    path = project.add("005", sql, after="004")
    path.write_text(path.read_text().replace("op.execute", "op.get_bind(); op.execute"))
    environ = {
        "DATABASE_URL": "",
        "DB_HOST": database.host,
        "DB_PORT": str(database.port),
        "DB_NAME": database.name,
        "DB_PASSWORD": secret,
        "NEURAKNOT_RESULT": "json",
    }
    commands = (["upgrade", "head"], ["log"], ["log", "--json"], ["verify"], ["reset", "--confirm", "x"])
    for command in commands:
        done = database.neuraknot_db(*command, cwd=project.root, **environ)
        assert "planted" not in done.out, command
        assert "planted" not in done.err, command
    assert last(database)[0][:3] == ("005", "upgrade", "failed")
    everything = "SELECT string_agg(l::text, '') FROM neuraknot_db.migration_log l"
    assert "planted" not in str(database.value(everything))


LOG, SETTINGS = "neuraknot_db.migration_log", "neuraknot_db.settings"
NEWER, BROKEN = "newer version of this tool", "was tampered with"
TAMPERED = {
    f"ALTER TABLE {LOG} DROP COLUMN checksum": BROKEN,
    f"ALTER TABLE {LOG} ADD COLUMN note text": BROKEN,
    f"ALTER TABLE {LOG} ALTER attempt TYPE date USING now()": BROKEN,
    f"ALTER TABLE {LOG} ALTER id DROP IDENTITY": BROKEN,
    f"ALTER TABLE {LOG} ADD CHECK (false) NOT VALID": BROKEN,
    f"ALTER TABLE {LOG} ALTER outcome TYPE varchar(9)": BROKEN,
    f"UPDATE {LOG} SET error = ''; ALTER TABLE {LOG} ALTER error SET NOT NULL": BROKEN,
    f"ALTER TABLE {LOG} ALTER database_user DROP DEFAULT": BROKEN,
    f"ALTER TABLE {LOG} RENAME TO m; CREATE VIEW {LOG} AS TABLE neuraknot_db.m": BROKEN,
    f"CREATE RULE lost AS ON INSERT TO {LOG} DO INSTEAD NOTHING": BROKEN,
    f"CREATE RULE lost AS ON UPDATE TO {SETTINGS} DO INSTEAD NOTHING": BROKEN,
    f"CREATE TRIGGER lost BEFORE INSERT ON {LOG} FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column()": (
        BROKEN
    ),
    f"DROP TABLE {LOG}": BROKEN,
    f"DROP TABLE {SETTINGS}": BROKEN,
    f"ALTER TABLE {SETTINGS} RENAME value TO val": BROKEN,
    f"ALTER TABLE {SETTINGS} DROP CONSTRAINT settings_pkey": BROKEN,
    f"DELETE FROM {SETTINGS} WHERE name = 'format'": BROKEN,
    f"UPDATE {SETTINGS} SET value = 'x' WHERE name = 'format'": BROKEN,
    f"UPDATE {SETTINGS} SET value = '²' WHERE name = 'format'": BROKEN,
    f"UPDATE {SETTINGS} SET value = repeat('9', 5000) WHERE name = 'format'": BROKEN,
    f"UPDATE {SETTINGS} SET value = '3' WHERE name = 'format'": NEWER,
    f"ALTER TABLE {LOG} ADD COLUMN n text; UPDATE {SETTINGS} SET value = '12' WHERE name = 'format'": NEWER,
}


@pytest.mark.parametrize("sql", TAMPERED)
def test_a_log_that_is_not_ours_any_more_is_left_alone(database_at_head: Database, project: Project, sql: str) -> None:
    project.add("005", "CREATE TABLE public.five ()", after="004")
    database_at_head.run(sql)
    before = database_at_head.value(SCHEMA)
    said(database_at_head.neuraknot_db("upgrade", "head", cwd=project.root), 5, TAMPERED[sql])
    assert database_at_head.value(SCHEMA) == before


def test_who_refers_to_the_log_or_took_a_rule_back_does_no_harm(database_at_head: Database) -> None:
    database_at_head.run(
        f"CREATE TABLE public.reviews (id bigint REFERENCES {LOG});"
        f"CREATE RULE lost AS ON INSERT TO {LOG} DO INSTEAD NOTHING; DROP RULE lost ON {LOG}"
    )
    assert database_at_head.neuraknot_db("log").code == 0


def test_no_command_writes_to_a_log_that_is_not_ours_any_more(database_at_head: Database) -> None:
    database_at_head.run(f"ALTER TABLE {LOG} DROP COLUMN checksum")
    before = database_at_head.value(SCHEMA)
    for command in (["downgrade", "-1"], ["log"], ["mark", "dev"], ["reset", "--confirm", database_at_head.name]):
        said(database_at_head.neuraknot_db(*command), 5, "lacks migration_log.checksum text", "neuraknot_db_old")
    assert database_at_head.value(SCHEMA) == before


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """A role that may create in `public`, but no schema."""
    name = f"plain%s_{os.getpid()}"
    database.run(f'CREATE ROLE "{name}" LOGIN; GRANT CREATE ON SCHEMA public TO "{name}"')
    yield name
    database.run(f'DROP OWNED BY "{name}" CASCADE; DROP ROLE "{name}"')


def test_a_role_that_may_not_keep_the_log(database: Database, role: str) -> None:
    before = database.value(SCHEMA)
    done = database.as_user(role).alembic("upgrade", "head")
    grant = f'GRANT CREATE ON DATABASE "{database.name}" TO "{role}"'
    said(done, 5, f"User {role} may not keep the log", grant)
    assert database.value(SCHEMA) == before
    database.run(f'{grant}; CREATE EXTENSION "uuid-ossp" SCHEMA public')
    done = database.as_user(role).alembic("upgrade", "head")
    assert done.code == 0, done.err


@pytest.mark.slow
def test_a_role_that_may_not_write_to_the_log_of_another(database: Database, role: str) -> None:
    assert database.alembic("upgrade", "head").code == 0
    database.run(f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{role}"')
    other = database.as_user(role)
    read = (
        f'GRANT USAGE ON SCHEMA neuraknot_db TO "{role}"; GRANT SELECT ON ALL TABLES IN SCHEMA neuraknot_db TO "{role}"'
    )
    for command in (("log",), ("downgrade", "-1")):
        said(other.neuraknot_db(*command), 5, "may not read the log", read)
    assert other.neuraknot_db("log").out == ""
    database.run(read)
    assert "upgrade 001" in other.neuraknot_db("log").out
    keep = (
        f'GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA neuraknot_db TO "{role}";'
        f' GRANT UPDATE ON neuraknot_db.settings TO "{role}"'
    )
    before = database.value(SCHEMA)
    for command in (("mark", "dev"), ("downgrade", "-1")):
        said(other.neuraknot_db(*command), 5, "may not keep the log", keep)
    assert database.value(SCHEMA) == before
    database.run(keep)
    assert "may not keep the log" not in other.alembic("downgrade", "-1").err
    assert other.neuraknot_db("mark", "dev").code == 0


def test_a_schema_made_beforehand_is_used(database: Database, role: str) -> None:
    database.run('CREATE SCHEMA neuraknot_db; CREATE EXTENSION "uuid-ossp" SCHEMA public')
    grant = f'GRANT USAGE, CREATE ON SCHEMA neuraknot_db TO "{role}"'
    said(database.as_user(role).alembic("upgrade", "head"), 5, "may not keep the log", grant)
    database.run(grant)
    done = database.as_user(role).alembic("upgrade", "head")
    assert done.code == 0, done.err


@pytest.mark.slow
def test_six_first_upgrades_at_once_make_one_log(database: Database) -> None:
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: database.alembic("upgrade", "head"), range(6)))
    assert [each.code for each in done] == [0] * 6, [each.err for each in done]
    assert last(database, 9) == [(revision, "upgrade", "succeeded", 1) for revision in ("001", "002", "003", "004")]


def test_two_databases_have_a_log_each(new_database: Callable[..., Database]) -> None:
    one, two = new_database(), new_database()
    assert one.alembic("upgrade", "001").code == 0
    assert two.value("SELECT to_regnamespace('neuraknot_db')") is None


FORMAT_1 = f"""
ALTER TABLE {LOG} DROP COLUMN run, DROP COLUMN before, DROP COLUMN after;
DROP TABLE neuraknot_db.backfill_progress;
UPDATE {SETTINGS} SET value = '1' WHERE name = 'format'
"""


def test_each_row_says_of_which_run_it_is_and_what_it_changed(database: Database, project: Project) -> None:
    project.add("005", "SELECT 1/0", after="004")
    assert database.alembic("upgrade", "002").code == 0
    assert database.alembic("upgrade", "head", cwd=project.root).code == 7
    assert log_of(database, "revision, before, after") == [
        ("001", None, "001"),
        ("002", "001", "002"),
        ("003", "002", "003"),
        ("004", "003", "004"),
        ("005", "004", "004"),
    ]
    runs = [row[0] for row in log_of(database, "run")]
    assert len(set(runs)) == 2
    assert runs[0] == runs[1] != runs[2] == runs[4]
    assert json.loads(database.neuraknot_db("log", "--json").out)[0]["run"] == str(runs[0])


def test_branches_and_their_merge_have_a_row_each(database_at_head: Database, project: Project) -> None:
    # An UPDATE of its own is not the one that moves the version.
    table = "sqlalchemy.table('users', sqlalchemy.column('display_name'))"
    update = f"{table}.update().values(display_name=sqlalchemy.null())"
    for revision in ("005", "006"):
        path = project.add(revision, "SELECT 1 + 1", after="004")
        text = path.read_text().replace("'SELECT 1 + 1'", update)
        path.write_text(text.replace("from alembic", "import sqlalchemy\nfrom alembic"))
    merge = project.add("007", "SELECT 7", after="005")
    merge.write_text(merge.read_text().replace("= '005'", "= ('005', '006')"))
    assert database_at_head.alembic("upgrade", "007", cwd=project.root).code == 0
    assert database_at_head.alembic("downgrade", "004", cwd=project.root).code == 0
    rows = log_of(database_at_head, "revision, before, after")[4:]
    assert sorted(rows[:2]) in (
        [("005", "004", "005"), ("006", "005", "005, 006")],
        [("005", "006", "005, 006"), ("006", "004", "006")],
    )
    assert rows[2:4] == [("007", "005, 006", "007"), ("007", "007", "005, 006")]
    assert sorted(rows[4:]) in (
        [("005", "005", "004"), ("006", "005, 006", "005")],
        [("005", "005, 006", "006"), ("006", "006", "004")],
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("downgrade", "-1"),
        ("stamp", "003"),
        ("stamp", "--purge", "base"),
        ("mark", "dev"),
        ("reset", "--confirm", "NAME"),
    ],
)
def test_a_log_of_the_first_format_is_taken_over(database_at_head: Database, command: tuple[str, ...]) -> None:
    database_at_head.run(FORMAT_1)
    before = log_of(database_at_head)
    for reading in ("log", "verify", "current", "plan"):
        assert database_at_head.neuraknot_db(reading).code == 0, reading
    assert database_at_head.value(f"SELECT value FROM {SETTINGS} WHERE name = 'format'") == "1"
    done = database_at_head.neuraknot_db(*(database_at_head.name if word == "NAME" else word for word in command))
    assert done.code == 0, done.err
    assert database_at_head.value(f"SELECT value FROM {SETTINGS} WHERE name = 'format'") == "2"
    rows = log_of(database_at_head, "revision, direction, outcome, run IS NULL")
    assert [row[:3] for row in rows][: len(before)] == before
    assert [row[3] for row in rows] == [True] * len(before) + [False] * (len(rows) - len(before))
    assert database_at_head.neuraknot_db("log").code == 0


def test_a_run_that_fails_has_taken_the_log_over_or_left_it(database_at_head: Database, project: Project) -> None:
    project.add("005", "SELECT 1/0", after="004")
    database_at_head.run(FORMAT_1)
    done = database_at_head.neuraknot_db("reset", "--confirm", database_at_head.name, cwd=project.root)
    assert done.code == 7, done.err
    assert last(database_at_head) == [(None, "reset", "failed", 1)]
    assert database_at_head.neuraknot_db("log").code == 0


def test_who_may_not_take_the_log_over_is_given_the_statements(database: Database, role: str) -> None:
    assert database.alembic("upgrade", "head").code == 0
    database.run(
        f'{FORMAT_1}; GRANT USAGE ON SCHEMA neuraknot_db TO "{role}"; GRANT ALL ON SCHEMA public TO "{role}";'
        f'GRANT ALL ON ALL TABLES IN SCHEMA neuraknot_db, public TO "{role}"'
    )
    other = database.as_user(role)
    assert "upgrade 001" in other.neuraknot_db("log").out
    done = other.neuraknot_db("mark", "dev")
    said(done, 5, "may not keep the log", "ALTER TABLE neuraknot_db.migration_log ADD COLUMN run uuid")
    database.run(done.err.partition("As an administrator: ")[2])
    assert other.neuraknot_db("mark", "dev").code == 0


@pytest.mark.slow
def test_a_run_that_was_killed_is_told(database_at_head: Database, project: Project, tmp_path: Path) -> None:
    project.add("005", "SELECT 1", after="004")
    project.add("006", "SELECT pg_sleep(600)", after="005")
    with running(
        database_at_head, "upgrade", "head", said=tmp_path / "said", cwd=project.root, NEURAKNOT_STARTED_BY="hana"
    ) as migration:
        sleeping = f"SELECT count(*) FROM pg_stat_activity WHERE {MIGRATOR} AND wait_event = 'PgSleep'"
        wait_until(lambda: database_at_head.value(sleeping) == 1)
        migration.process.kill()
        migration.ended()
    wait_until(lambda: database_at_head.value(f"SELECT count(*) FROM pg_stat_activity WHERE {MIGRATOR}") == 0)
    text = database_at_head.neuraknot_db("log").out.splitlines()
    (told,) = [line for line in text if "started" in line]
    assert "  upgrade         started      not ended  hana on " in told
    assert text[text.index(told) + 1].startswith("    it still runs, or was killed")
    assert text.index(told) == len(text) - 3  # revision 005 was committed after it
    (row,) = [
        row for row in json.loads(database_at_head.neuraknot_db("log", "--json").out) if row["outcome"] == "started"
    ]
    assert (row["revision"], row["before"], row["after"], row["started_by"]) == (None, "004", "006", "hana")

    project.add("006", "SELECT 1", after="005")
    for target in ("005", "head"):  # the first has nothing to do
        again = database_at_head.neuraknot_db("upgrade", target, cwd=project.root)
        assert again.code == 0, again.err
        assert re.search(
            r"the last run \(upgrade of \S+ \S+ UTC by hana on \S+\) was killed .* stays, the database is at 005\n",
            again.err,
        )
    project.add("007", "SELECT 1", after="006")
    assert "was killed" not in database_at_head.neuraknot_db("upgrade", "head", cwd=project.root).err


@pytest.mark.slow
def test_a_reset_that_was_killed_is_told_and_changed_nothing(
    database_at_head: Database, project: Project, tmp_path: Path
) -> None:
    project.add("005", "SELECT pg_sleep(600)", after="004")
    reset = ("reset", "--confirm", database_at_head.name)
    with running(
        database_at_head, *reset, said=tmp_path / "said", program="neuraknot-db", cwd=project.root
    ) as migration:
        sleeping = f"SELECT count(*) FROM pg_stat_activity WHERE {MIGRATOR} AND wait_event = 'PgSleep'"
        wait_until(lambda: database_at_head.value(sleeping) == 1)
        migration.process.kill()
        migration.ended()
    wait_until(lambda: database_at_head.value(f"SELECT count(*) FROM pg_stat_activity WHERE {MIGRATOR}") == 0)
    assert "  reset           started      not ended  " in database_at_head.neuraknot_db("log").out
    assert database_at_head.value("SELECT version_num FROM alembic_version") == "004"
    done = database_at_head.neuraknot_db(*reset)
    assert (done.code, "the last run (reset of " in done.err) == (0, True), done.err
    assert " not ended  " in database_at_head.neuraknot_db("log").out  # it is still so


@pytest.mark.slow
def test_a_run_that_ended_is_not_said_to_be_under_way(database: Database, project: Project) -> None:
    project.add("005", "SELECT 1/0", after="004")
    for program, arguments, code in (
        ("alembic", ["upgrade", "head"], 7),
        ("alembic", ["downgrade", "base"], 0),
        ("alembic", ["upgrade", "002"], 0),
        ("alembic", ["stamp", "003"], 0),
        ("alembic", ["stamp", "--purge", "base"], 0),
        ("neuraknot-db", ["reset", "--confirm", database.name], 7),
        ("neuraknot-db", ["reset", "--confirm", database.name, "--no-upgrade"], 0),
    ):
        done = database.program(program, *arguments, cwd=project.root)
        assert done.code == code, done.err
        assert "was killed" not in done.err, arguments
        assert " not ended  " not in database.neuraknot_db("log").out, arguments


def test_numbers_that_a_crash_has_set_back_end_no_run(database_at_head: Database, project: Project) -> None:
    """As in a copy of a database whose server crashes."""
    project.add("005", "SELECT 1", after="004")
    project.add("006", "SELECT 1/0", after="005")
    back = "ALTER TABLE neuraknot_db.migration_log ALTER COLUMN id RESTART WITH 1"
    database_at_head.run(back)
    done = database_at_head.alembic("upgrade", "005", cwd=project.root)
    assert done.code == 0, done.err
    database_at_head.run(back)
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 7
    assert log_of(database_at_head)[-1] == ("006", "upgrade", "failed")
