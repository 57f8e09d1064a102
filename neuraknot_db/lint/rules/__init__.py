"""Our own rules: what squawk does not know. One rule a module, with its code, its help and its check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from neuraknot_db.lint.finding import Finding, Subject
from neuraknot_db.lint.rules import (
    id_out_of_sequence,
    missing_downgrade,
    needs_database,
    outside_transaction_only,
    several_statements,
    several_tables,
    uncounted_loss,
)

CHECKS: Sequence[Callable[[Subject], Iterator[Finding]]] = (
    id_out_of_sequence.check,
    missing_downgrade.check,
    needs_database.check,
    outside_transaction_only.check,
    several_statements.check,
    several_tables.check,
    uncounted_loss.check,
)
