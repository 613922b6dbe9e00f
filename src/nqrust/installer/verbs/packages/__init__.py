"""Packages: the step that installs them, and the verb that takes them away again.

A package manager is one folder (`apt/`, `dnf/`) and a line in `registry.py`. Its `manager.py` puts its parts together:
`installing.py` is what the step asks, `removing.py` what the verb asks, `database.py` what is asked of any host, and
`shell.py` its part of the undo script. `manager.py` of this folder says what each part answers.
"""
