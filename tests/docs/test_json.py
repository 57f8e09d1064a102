"""The reference has each field of what `neuraknot-db` prints as JSON, and no other."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from neuraknot_db.cli import console
from neuraknot_db.database.other_sessions import Session
from neuraknot_db.history import render
from neuraknot_db.history.log import Record
from neuraknot_db.history.runs import runs
from neuraknot_db.migrate.adopt import Adoption
from neuraknot_db.migrate.outcome import Outcome
from neuraknot_db.plan.values import (
    Holder,
    Plan,
    PlannedBackfill,
    PlannedRevision,
    PlannedStatement,
    Question,
    Refusal,
    TableNow,
)
from neuraknot_db.schema.compare import Difference
from neuraknot_db.schema.effects import Effect
from neuraknot_db.schema.verify import Report
from tests.docs.fields import demand_all_fields, documented, printed

STATEMENT = PlannedStatement("SELECT 1", 1, (Effect("users"),))
TABLE = TableNow("users", True, holders=(Holder(Session(1), None, True),))
REVISION = PlannedRevision(
    "001",
    "x",
    "x.py",
    (STATEMENT,),
    questions=(Question("expects", "x", 1), Question("losses", "x")),
    backfill=PlannedBackfill("x", None, 1, 1, True, None, 1, 1, 250, 1, 1),
)
PLAN = Plan("here", "18", None, "001", False, (REVISION,), {"users": TABLE})
NOW = datetime.now(UTC)


def test_the_fields_of_neuraknot_db() -> None:
    outcome = Outcome("upgrade")
    outcome.aim("001")
    record = Record._make(NOW if name == "started_at" else "x" for name in Record._fields)
    [run] = runs([record])
    outcome.rollback = {}
    found = {
        **printed("NEURAKNOT_RESULT", json.loads(console._result(outcome, 0, None))),
        **printed("adopt", Adoption("001", (), (), True).to_json()),
        **printed("verify", Report("001", (Difference("users", "table", None, ""),), (), ()).to_json()),
        **printed("log", render.as_json([record])),
        **printed("log --runs", [run.to_json()]),
        **printed("plan", replace(PLAN, refused=Refusal(5, "x"), rollback=run).to_json()),
    }
    assert found.pop("plan.rollback.run") == found["log --runs[]"]  # "as in"
    demand_all_fields(documented("json-of-neuraknot-db"), found)
