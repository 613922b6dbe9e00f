"""The agent: one per host, root. Runs the VMs of this host and tells the manager what it sees.

`service.py` carries the verbs of `contract.agent`; what it knows it reads from the kernel, the supervisor and the VMMs:
`scopes/` (processes), `taps.py` (links), `store.py` (disks and what was asked), `vmm/` (drivers).
"""
