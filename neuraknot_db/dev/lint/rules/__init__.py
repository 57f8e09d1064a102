"""Our own rules, for what squawk does not know: one rule per module, with its code, help and check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from neuraknot_db.dev.lint import squawk
from neuraknot_db.dev.lint.finding import Finding, Subject
from neuraknot_db.dev.lint.rules import (
    drop_in_use,
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
    refused_backfill,
    session_setting,
    several_statements,
    several_tables,
    table_rewrite,
    unasked_assumption,
    uncounted_loss,
    uncounted_source,
    whole_table_change,
)

CHECKS: Mapping[str, Callable[[Subject], Iterator[Finding]]] = {
    drop_in_use.CODE: drop_in_use.check,
    fails_in_reset.CODE: fails_in_reset.check,
    id_out_of_sequence.CODE: id_out_of_sequence.check,
    late_autocommit_block.CODE: late_autocommit_block.check,
    long_lock.CODE: long_lock.check,
    missing_downgrade.CODE: missing_downgrade.check,
    missing_upgrade.CODE: missing_upgrade.check,
    module_level_call.CODE: module_level_call.check,
    needless_autocommit.CODE: needless_autocommit.check,
    needs_database.CODE: needs_database.check,
    not_measured.CODE: not_measured.check,
    outside_transaction_only.CODE: outside_transaction_only.check,
    psql_only.CODE: psql_only.check,
    refused_backfill.CODE: refused_backfill.check,
    session_setting.CODE: session_setting.check,
    several_statements.CODE: several_statements.check,
    several_tables.CODE: several_tables.check,
    table_rewrite.CODE: table_rewrite.check,
    unasked_assumption.CODE: unasked_assumption.check,
    uncounted_loss.CODE: uncounted_loss.check,
    uncounted_source.CODE: uncounted_source.check,
    whole_table_change.CODE: whole_table_change.check,
}

SQUAWK_TELLS: Mapping[str, frozenset[str]] = {
    drop_in_use.CODE: squawk.DROPPING,
    long_lock.CODE: squawk.SLOW,
    table_rewrite.CODE: squawk.SLOW,
}
"""Our rules that judge by measured effects, and squawk's with better advice for statements that it understands."""
