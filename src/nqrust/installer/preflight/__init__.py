"""Phase 1: every check runs, each has a code; errors refuse, warnings tell (kubeadm's way).

`findings.py` the form, `unsupported.py` what this version does nowhere, `machine.py`, `ports.py`, `network.py`,
`addresses.py`, `others.py` pure checks over facts and settings, `folders.py` the file systems that an install writes to,
`reach.py` what must be asked of other machines, `run.py` the list of all. What stands in the way of a step, its own
`inspect` says, and the runner asks every step before the first change.
"""
