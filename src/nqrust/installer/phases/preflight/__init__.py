"""Phase 1: every check runs, each has a code; errors refuse, warnings tell (kubeadm's way).

`findings.py` the form, `machine.py`, `ports.py`, `network.py`, `others.py` pure checks over facts and settings,
`reach.py` what must be asked of other machines, `run.py` the list of all.
"""
