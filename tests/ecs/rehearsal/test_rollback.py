"""`ecs-migrate --rollback` on the local AWS, with real programs and a real database: run by run, and never forward."""

from __future__ import annotations

import os
import sys
import tempfile
from io import StringIO
from pathlib import Path

import pytest

from launcher.cli.console import Console
from launcher.cli.dependencies import Dependencies
from launcher.cli.main import main
from launcher.rehearsal.database import EmbeddedDatabase
from launcher.rehearsal.stage import Stage, staged
from tests.projects import ROOT


def launch(stage: Stage, *arguments: str) -> tuple[int, str]:
    """Migrate the stage's production; the exit code, and what was said."""
    said = StringIO()
    console = Console(stdout=said, stderr=said, environ=os.environ)
    dependencies = Dependencies(run=stage.runner, console=lambda _: console, ask=lambda _: "neuraKnot")
    where = ("--root", str(ROOT), "--terraform-dir", str(stage.directory))
    with pytest.raises(SystemExit) as end:
        main(["ecs-migrate", "--environment", "prod", *where, *arguments], dependencies)
    return int(str(end.value.code)), said.getvalue()


@pytest.mark.slow
def test_run_by_run_down_to_nothing() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="nk-") as folder,
        EmbeddedDatabase(Path(sys.executable).parent, Path(folder) / "pg") as database,
        staged(ROOT, "prod", Path(folder), database) as stage,
    ):
        for target in ("002", "head"):
            code, said = launch(stage, "--revision", target)
            assert code == 0, said
        rds = stage.cloud.stack.rds
        snapshots = len(rds.database_snapshots)
        code, said = launch(stage, "--rollback")
        assert code == 0, said
        assert "Done. prod is at revision 002; 004, 003 taken back." in said
        assert len(rds.database_snapshots) == snapshots + 1
        code, said = launch(stage, "--rollback", "--no-snapshot")
        assert code == 0, said
        assert "Done. prod is at no revision; 002, 001 taken back." in said
