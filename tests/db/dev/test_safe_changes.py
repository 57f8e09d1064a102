"""The guide's pairs of revisions: the linter finds the bad ones as the guide says, and nothing finds the good ones."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from neuraknot_db import settings
from neuraknot_db.database import session
from neuraknot_db.dev.lint import lint
from neuraknot_db.dev.roundtrip.trial import Course
from neuraknot_db.plan.make import make
from neuraknot_db.plan.values import PlannedStatement
from neuraknot_db.revisions.targets import select
from neuraknot_db.schema.effects import LockMode
from tests.db.conftest import Database, Project, Server
from tests.db.measuring import loaded, measured, settings_of
from tests.docs.documents import Block, read
from tests.projects import ROOT

GUIDE = read(ROOT / "docs" / "operations.md")
CHANGES = [each.anchor for each in GUIDE.below("safe-changes")]
HEADER = '"""A change."""\n\nfrom alembic import op\n\nrevision = "{:03d}"\ndown_revision = "{:03d}"\n'
BAD = 'def upgrade() -> None:\n    op.execute("""{}""")\n\ndef downgrade() -> None:\n    op.execute("SELECT 1")\n'
FOUND = re.compile(r"[a-z]+(-[a-z]+)+")
MODES = {str(mode) for mode in LockMode}


def blocks(change: str, language: str) -> list[Block]:
    return [each for each in GUIDE.blocks if (each.heading, each.language) == (change, language)]


def said(change: str, words: Callable[[str], object]) -> set[str]:
    """What the guide says of a bad example, in code spans of this kind."""
    return {span for span, heading in GUIDE.spans if heading == change and words(span)}


def write(project: Project, bodies: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Write the revisions of all changes, one behind the other after 004; gives those of each change."""
    made: dict[str, list[str]] = {}
    number = 4
    for change, revisions in bodies.items():
        made[change] = []
        for body in revisions:
            number += 1
            made[change].append(f"{number:03d}")
            path = project.versions / f"{number:03d}_change.py"
            path.write_text(HEADER.format(number, number - 1) + body, encoding="utf-8")
    return made


def findings(project: Project, revisions: Sequence[str]) -> set[str]:
    script = loaded(ScriptDirectory(str(project.root / "alembic")))
    return {each.code for revision in revisions for each in lint(script, select(script, revision, "lint"))}


def planned(project: Project, database: Database) -> dict[str, tuple[PlannedStatement, ...]]:
    """What `neuraknot-db plan` says of each revision."""
    where = settings_of(database)
    with session.open_session(where) as connection:
        script = loaded(ScriptDirectory(str(project.root / "alembic")))
        plan = make(connection, script, where, settings.limits(), "head")
    return {each.revision: each.statements for each in plan.revisions}


@pytest.mark.slow
def test_the_bad_ones_are_found_as_the_guide_says(project: Project, at: Callable[[str], Database]) -> None:
    made = write(project, {change: [BAD.format(blocks(change, "sql")[0].text)] for change in CHANGES})
    database = at("004")
    measured(project.root, database)
    plan = planned(project, database)
    for change, revisions in made.items():
        found = findings(project, revisions)
        assert found, change
        assert found == said(change, FOUND.fullmatch), change
        locks = {str(statement.mode(effect)) for statement in plan[revisions[0]] for effect in statement.effects}
        assert locks == said(change, MODES.__contains__), change


@pytest.mark.slow
def test_nothing_finds_the_good_ones(project: Project, at: Callable[[str], Database]) -> None:
    made = write(project, {change: [each.text for each in blocks(change, "python")] for change in CHANGES})
    lint_toml = project.root / "alembic" / "lint.toml"
    exceptions = [lint_toml.read_text(encoding="utf-8")]
    for change, revisions in made.items():
        # In the guide each change has the numbers that its files begin with.
        numbers = [each.text[2:5] for each in blocks(change, "python")]
        for block in blocks(change, "toml"):
            number = block.text[len("[revisions.") :][:3]
            exceptions.append(block.text.replace(number, revisions[numbers.index(number)], 1))
    lint_toml.write_text("\n".join(exceptions), encoding="utf-8")
    database = at("004")
    measured(project.root, database)
    plan = planned(project, database)
    for change, revisions in made.items():
        assert revisions, change
        assert not findings(project, revisions), change
        for statement in (statement for revision in revisions for statement in plan[revision]):
            assert not any(each.takes_time and statement.blocks(each) for each in statement.effects), statement.sql
    for way, revision in ("upgrade", "head"), ("downgrade", "004"):
        done = database.alembic(way, revision, cwd=project.root)
        assert done.code == 0, done.err
    database.run("ALTER TABLE public.ai_agents VALIDATE CONSTRAINT chk_provider")  # what the guide leaves to do
    assert database.neuraknot_db("verify", cwd=project.root).code == 0


@pytest.mark.slow
def test_the_way_back_of_the_good_ones_keeps_every_row(project: Project, server_18: Server) -> None:
    made = write(project, {change: [each.text for each in blocks(change, "python")] for change in CHANGES})
    config = Config(str(project.root / "alembic.ini"))
    script = loaded(ScriptDirectory.from_config(config))
    with contextlib.closing(Course(config, script, settings_of(server_18))) as course:
        for revision in (revision for revisions in made.values() for revision in revisions):
            trial = course.run(script.get_revision(revision))
            assert trial.findings == {}, revision
            assert trial.told.startswith("back and up again with "), trial.told
