"""Logs of homes to recordings: one file a format, which only reads; `days` cuts and writes for all.

A format is one generator, `read(source, options, log)`: it yields changes ``(t_s, sensor, value)``
in any order and tells the `Log` everything else: what the sensors are and how that was guessed,
labels, pieces of film, and why each row that gave nothing was left out. `contract.py` says what is
asked of it and checks it.
"""
