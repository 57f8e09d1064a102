"""Our own rules, for what squawk does not know: one rule per module, with its code, help and check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from neuraknot_db.dev.lint.finding import Finding, Subject
from neuraknot_db.dev.lint.rules import (
    fails_in_reset,
    id_out_of_sequence,
    late_autocommit_block,
    long_lock,
    missing_downgrade,
    missing_upgrade,
    module_level_call,
    needless_autocommit,
    needs_database,
    not_measured,
    outside_transaction_only,
    psql_only,
    session_setting,
    several_statements,
    several_tables,
    table_rewrite,
    uncounted_loss,
    uncounted_source,
    whole_table_change,
)

CHECKS: Sequence[Callable[[Subject], Iterator[Finding]]] = (
    fails_in_reset.check,
    id_out_of_sequence.check,
    late_autocommit_block.check,
    long_lock.check,
    missing_downgrade.check,
    missing_upgrade.check,
    module_level_call.check,
    needless_autocommit.check,
    needs_database.check,
    not_measured.check,
    outside_transaction_only.check,
    psql_only.check,
    session_setting.check,
    several_statements.check,
    several_tables.check,
    table_rewrite.check,
    uncounted_loss.check,
    uncounted_source.check,
    whole_table_change.check,
)

ALSO_SQUAWKS = frozenset({long_lock.CODE, table_rewrite.CODE})
"""What squawk finds as well where it understands the statement, and then with better advice (`squawk.SLOW`)."""
