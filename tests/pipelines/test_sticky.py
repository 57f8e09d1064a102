"""sticky.py on its own: what it says of GitHub's refusals, and long and hostile texts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipelines.github import REPOSITORY, TOKEN, GitHub
from tests.projects import ROOT


def sticky(github: GitHub, *arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    environ = {
        "GITHUB_API_URL": github.url,
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
    done = sticky(github, "comment", "7", f"review={tmp_path}/text.md", token=token)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: GitHub's API refused")
    assert "Bad credentials" in done.stderr
    assert github.writes == []


@pytest.mark.parametrize("name", ["long.md", "long.txt"])
def test_a_long_text_is_cut_at_a_line_and_says_so(name: str, github: GitHub, tmp_path: Path) -> None:
    (tmp_path / name).write_text("| 0123 |\n" * 20_000)
    done = sticky(github, "comment", "7", f"review={tmp_path}/{name}", f"plan={tmp_path}/{name}")
    assert done.returncode == 0, done.stderr
    assert "The rest is left out here. [The run]" in github.comments[0]["body"]


def test_plain_text_stays_text(github: GitHub, tmp_path: Path) -> None:
    (tmp_path / "drift.txt").write_text("</pre> @everybody <!-- neuraknot: x -->")
    assert sticky(github, "issue", "Drift", f"{tmp_path}/drift.txt").returncode == 0
    assert "<pre>&lt;/pre&gt; @everybody &lt;!-- neuraknot: x --&gt;</pre>" in github.issues[0]["body"]


@pytest.mark.parametrize(
    ("environment", "said"),
    [(None, "false"), ({}, "false"), ({"protection_rules": [{"type": "required_reviewers"}]}, "true")],
)
def test_a_plan_waits_only_where_a_review_is_asked_for(environment: object, said: str, github: GitHub) -> None:
    if environment is not None:
        github.environments["prod-plan"] = environment
    assert sticky(github, "reviewed", "prod-plan").stdout == f"{said}\n"
