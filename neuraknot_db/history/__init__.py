"""The log of what was run, and the environment marker: in the schema `neuraknot_db`, which no reset drops.

log      `History`: look, create, read and write; an `Entry` is a row to be written, a `Record` one that was read
tables   the two tables and the settings: how they are made, taken over from an older version, and recognised as ours
render   the log for people and for programs

A `History` is made from a connection; what it finds (does the log exist, may this role write to it, what environment is
the database marked with) are its attributes. Entries are written in the transaction of the work that they tell of, by
`migrate.record`.
"""
