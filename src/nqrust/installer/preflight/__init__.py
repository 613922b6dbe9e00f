"""Phase 1: every check runs and has a code. Errors refuse the install, warnings do not (as in kubeadm).

`findings.py`: the result type. `unsupported.py`: missing features of this version. `machine.py`, `ports.py`, `network.py`,
`addresses.py`, `others.py`: pure checks of facts and settings. `folders.py`: file systems that an install writes to.
`reach.py`: questions to other machines. `run.py`: the list of all checks. A step's own `inspect` reports a conflict, and the
runner inspects every step before the first change.
"""
