"""An upgrade that drops what the running application may use, whatever the form of the SQL: in a DO block too."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, Subject

CODE = "drop-in-use"
HELP = "Drop only what no running version of the application uses any more, and say so in alembic/lint.toml."


def check(subject: Subject) -> Iterator[Finding]:
    """Find dropped tables and columns that existed before."""
    for statement in subject.upgrade.measured.statements:
        dropped = [effect.relation for effect in statement.effects if effect.dropped]
        for effect in statement.effects:
            dropped += [f"{effect.relation}.{column}" for column in effect.columns_dropped]
        if dropped:
            yield subject.finding(statement.line, CODE, f"upgrade() drops {', '.join(dropped)}.", HELP)
