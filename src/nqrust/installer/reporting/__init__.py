"""Reporters: they receive the engine's events and write to a stream. They decide nothing.

`terminal.py` for people at a terminal, `plain.py` for people reading a file, `jsonl.py` for programs, `logfile.py` for the
log of the run. `wording.py` holds the sentences they share.
"""
