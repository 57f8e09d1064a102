"""Our own rules: what squawk does not know. One rule a module, with its code, its help and its check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from neuraknot_db.lint.finding import Finding, Subject
from neuraknot_db.lint.rules import (
    id_out_of_sequence,
    missing_downgrade,
    missing_upgrade,
    needless_autocommit,
    needs_database,
    outside_transaction_only,
    session_setting,
    several_statements,
    several_tables,
    table_rewrite,
    uncounted_loss,
    whole_table_change,
)

CHECKS: Sequence[Callable[[Subject], Iterator[Finding]]] = (
    id_out_of_sequence.check,
    missing_downgrade.check,
    missing_upgrade.check,
    needless_autocommit.check,
    needs_database.check,
    outside_transaction_only.check,
    session_setting.check,
    several_statements.check,
    several_tables.check,
    table_rewrite.check,
    uncounted_loss.check,
    whole_table_change.check,
)
