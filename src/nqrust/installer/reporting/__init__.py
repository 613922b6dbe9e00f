"""Reporters: they listen to the engine's events and write to the stream they are given. None of them decides
anything.

`terminal.py` for people at a terminal, `plain.py` for people reading a file, `jsonl.py` for programs,
`logfile.py` for the log of the run. `wording.py` holds the sentences they share.
"""
