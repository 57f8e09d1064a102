"""The two Alembic projects that tests run: the real one, and one of the tests' own that never grows."""

from __future__ import annotations

from pathlib import Path

from alembic.script import ScriptDirectory

ROOT = Path(__file__).parents[1]

PROJECT = ROOT / "tests" / "project"
"""Revisions 001 to 004, frozen: a new revision of the real project changes no test."""

REVISIONS = tuple(found.revision for found in ScriptDirectory(str(ROOT / "alembic")).walk_revisions())[::-1]
"""Those of the real project, the oldest first: tests that run it count on no number of them."""
