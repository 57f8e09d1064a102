"""sticky.py on its own: what it says of GitHub's refusals, and long and hostile texts."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.pipelines.github import REPOSITORY, TOKEN, GitHub, made
from tests.projects import ROOT


def sticky(url: str, *arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    environ = {
        "GITHUB_API_URL": url,
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_RUN_ID": "1",
        "GITHUB_TOKEN": token,
    }
    command = [sys.executable, "-I", str(ROOT / ".github" / "scripts" / "sticky.py"), *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("token", ["", "wrong"])
def test_a_refusal_is_told_in_githubs_words(token: str, github: GitHub, tmp_path: Path) -> None:
    (tmp_path / "text.md").write_text("Hello.")
    done = sticky(github.url, "comment", "7", f"review={tmp_path}/text.md", token=token)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: GitHub's API refused")
    assert "Bad credentials" in done.stderr
    assert github.writes == []


@pytest.mark.parametrize("answer", ["", "HTTP/1.1 200 OK\r\n\r\n[", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]"])
def test_an_answer_that_breaks_off_is_no_traceback(answer: str, tmp_path: Path) -> None:
    (tmp_path / "text.md").write_text("Hello.")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reply() -> None:
            with server.accept()[0] as connection:
                connection.recv(65_536)
                connection.sendall(answer.encode())

        threading.Thread(target=reply, daemon=True).start()
        done = sticky(f"http://127.0.0.1:{server.getsockname()[1]}", "comment", "7", f"review={tmp_path}/text.md")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: GitHub's API refused this or did not answer: ")


def test_a_comment_of_nobody_is_not_ours(github: GitHub, tmp_path: Path) -> None:
    (tmp_path / "text.md").write_text("Hello.")
    github.comments.append({**made(0), "user": None})
    done = sticky(github.url, "comment", "7", f"review={tmp_path}/text.md")
    assert (done.returncode, done.stderr) == (0, "")
    assert github.writes == ["POST /issues/7/comments"]


@pytest.mark.parametrize(("name", "line"), [("long.md", "| 0123 |"), ("long.txt", "0123"), ("marked-up.txt", "<&&>")])
def test_a_long_text_is_cut_at_a_line_and_says_so(name: str, line: str, github: GitHub, tmp_path: Path) -> None:
    (tmp_path / name).write_text(f"{line}\n" * 20_000)
    done = sticky(github.url, "comment", "7", f"review={tmp_path}/{name}", f"plan={tmp_path}/{name}")
    assert done.returncode == 0, done.stderr
    assert "The rest is left out here. [The run]" in github.comments[0]["body"]


def test_plain_text_stays_text(github: GitHub, tmp_path: Path) -> None:
    (tmp_path / "drift.txt").write_text("</pre> @everybody <!-- neuraknot: x -->")
    assert sticky(github.url, "issue", "Drift", f"{tmp_path}/drift.txt").returncode == 0
    assert "<pre>&lt;/pre&gt; @everybody &lt;!-- neuraknot: x --&gt;</pre>" in github.issues[0]["body"]


@pytest.mark.parametrize(
    ("environment", "said"),
    [(None, "false"), ({}, "false"), ({"protection_rules": [{"type": "required_reviewers"}]}, "true")],
)
def test_a_plan_waits_only_where_a_review_is_asked_for(environment: object, said: str, github: GitHub) -> None:
    if environment is not None:
        github.environments["prod-plan"] = environment
    assert sticky(github.url, "reviewed", "prod-plan").stdout == f"{said}\n"
