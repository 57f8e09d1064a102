"""What a person gets to see of an error, without a server."""

from __future__ import annotations

import errno
import os

import pytest

from neuraknot_db.database import diagnosis, display, login
from neuraknot_db.database.excerpt import _statement
from neuraknot_db.settings import Settings

WHERE = Settings("db.example", 5432, "app", None, "chat")


@pytest.mark.parametrize(
    ("answer", "message", "hint"),
    [
        ('role "app" does not exist', "has no role app", "DB_USER"),
        ('too many connections for role "app"', "has no connection to spare", "pg_stat_activity"),
        ('too many connections for database "chat"', "has no connection to spare", "pg_stat_activity"),
        ('role "app" is not permitted to log in', "User app may not log in", 'ALTER ROLE "app" LOGIN'),
        ('database "chat" is not currently accepting connections', "chat takes no connections", "ALLOW_CONNECTIONS"),
        ('database "chat" does not exist', "There is no database chat", "create_db"),
        ('cannot connect to invalid database "chat"', "refused the login of user app", "own words"),
        ('ロール"app"は存在しません', "refused the login of user app", "own words"),
    ],
)
@pytest.mark.parametrize("severity", ["FATAL", "致命的エラー"])
def test_each_answer_to_a_login_has_its_sentence(answer: str, message: str, hint: str, severity: str) -> None:
    words = f'connection to server at "db.example" (192.0.2.1), port 5432 failed: {severity}:  {answer}\n'
    found = login.explained(words, WHERE)
    assert message in found.message
    assert hint in (found.hint or "")
    assert found.exit_code == 6


def test_a_wrong_password_is_not_blamed_on_tls() -> None:
    """Where only TLS is let in, libpq's second try, without it, is refused for that."""
    place = 'connection to server at "db.example", port 5432 failed: FATAL:  '
    without_tls = 'no pg_hba.conf entry for host "192.0.2.7", user "app", database "chat", no encryption'
    both = f'{place}password authentication failed for user "app"\n{place}{without_tls}\n'
    assert "refused the login of user app" in login.explained(both, WHERE).message
    assert "DB_SSLMODE=require" in (login.explained(place + without_tls, WHERE).hint or "")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_file_that_can_not_be_written_is_no_defect_of_ours(number: int) -> None:
    found = diagnosis.explain(OSError(number, os.strerror(number), "/app/alembic/versions/005_x.py"))
    assert found is not None
    assert found.exit_code == 2
    assert "005_x.py can't be written" in found.message


@pytest.mark.parametrize("words", ["Connection refused\n\tIs the server running?", "timeout expired"])
def test_a_server_that_is_not_there_has_not_refused(words: str) -> None:
    found = login.explained(f'connection to server at "db.example", port 5432 failed: {words}', WHERE)
    assert "can't be reached" in found.message


@pytest.mark.parametrize("before", [0, 150, 299_990])
def test_a_line_of_data_is_shown_around_what_is_wrong(before: int) -> None:
    line = "x" * before + "WRONG" + "y" * (299_995 - before)
    shown, caret = _statement(f"{line}\nSELECT 1", str(before + 1))[:2]
    assert len(shown) < 220
    assert shown[caret.index("^") :].startswith("WRONG")


def test_the_caret_stands_in_the_cell_of_what_is_wrong() -> None:
    statement = "SELECT '日本語',\tnope"
    shown, caret = _statement(statement, str(statement.index("nope") + 1))
    before = shown[: shown.index("nope")]
    assert caret.expandtabs().index("^") == len(before.replace("日本語", "xx" * 3).expandtabs())
    assert display.width("日本語x") == 7


def test_a_duration_has_the_largest_unit_that_it_holds() -> None:
    shown = [display.duration(found) for found in (0, 0.4, 250, 999.6, 2_000, 12_345, 90_000, 5_400_000)]
    assert shown == ["0 ms", "0 ms", "250 ms", "1 s", "2 s", "12.3 s", "1.5 min", "1.5 h"]


@pytest.mark.parametrize(
    ("name", "near"),
    [("NeuraKnott", ["neuraKnot"]), ("h2_", []), ("H2", ["h2"]), ("h2_b", []), ("h2", ["h2"])],
)
def test_only_a_name_that_is_near_is_proposed(name: str, near: list[str]) -> None:
    assert login._near(name, ["h2", "h2_a", "h2_x", "neuraKnot", "postgres"]) == near
