"""The reference has each field of what the launcher prints as JSON, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.rehearsal.plays import BEGINNING
from launcher.rehearsal.program import Script
from tests.docs.fields import demand_all_fields, documented, printed
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import make_stage


@pytest.mark.slow
def test_the_fields_of_the_launcher(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> None:
    stage = make_stage(make_cloud(script=Script(lines=BEGINNING, seconds=3.0)), clock, tmp_path)

    def json(*arguments: str) -> object:
        return stage.launch(*arguments, "--json").json

    found = {
        **printed("dry-run", json("ecs-migrate", "--dry-run")),
        **printed("result", json("ecs-migrate", "--snapshot"), json("ecs-migrate", "--plan")),
        **printed("status", json("status")),
        **printed("logs", json("logs")),
        **printed("stop", json("stop")),
        **printed("doctor", json("doctor")),
        **printed("rehearse --fail list", json("rehearse", "--fail", "list")),
    }
    told = documented("json-of-launcher")
    for path in found.keys() - told.keys():  # "as in"
        assert found.pop(path) == told["result.log" if path.endswith(".log") else "result.task"], path
    demand_all_fields(told, found)
