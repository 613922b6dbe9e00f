"""Packages: the step that installs them, and the verb that removes them.

A package manager is one folder (`apt/`, `dnf/`) and a line in `registry.py`. Its `manager.py` combines its parts:
`installing.py` for the step, `removing.py` for the verb, `database.py` for looks at any host, and `shell.py` for the undo
script. `manager.py` of this folder defines each part's interface.
"""
