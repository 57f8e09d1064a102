"""The log of what was run, and the environment marker: in the schema `neuraknot_db`, which no reset drops.

log      `History`: look, create, read and write; an `Entry` is a row to write, a `Record` is a row that was read
tables   its tables (log, settings, positions of large changes): created, upgraded from an older version, and
         recognised as ours
render   the log for people and for programs

A `History` is made from a connection; its attributes say what it found (whether the log exists, whether this role may
write to it, the environment marker). `migrate.record` writes entries, in the transaction of the work that they
describe.
"""
