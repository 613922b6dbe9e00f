"""Packages: the step that installs them, and the verb that takes them away again.

A folder for each package manager (`apt/`, `dnf/`) has `installing.py`, which is what the step asks (`manager.py`), and
`removing.py`, which is what the verb asks (`remover.py`). Its row is in `registry.py`; its part of the undo script is in
`shell.py`.
"""
