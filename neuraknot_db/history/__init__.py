"""The log of what was run, and the environment marker: in the schema `neuraknot_db`, which no reset drops.

log      `History`: look, create and read, and the marker; an `Entry` is a row to write, a `Record` one that was read
tables   its tables (the log, the settings, and `backfill_progress`, which nothing uses yet): created,
         upgraded from an older version, and recognised as ours
runs     the rows by run: what each began with, who began it, and what it did
render   the log, and its runs, for people and for programs

A `History` is made from a connection; its attributes say what it found (whether the log exists, whether this role may
write to it, the environment marker). `migrate.record` writes entries, in the transaction of the work that they
describe.
"""
