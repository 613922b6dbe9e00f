"""The agent runs as root, one on each host. It runs the host's VMs and reports them to the manager.

`service.py` implements the verbs of `contract.agent`. Its knowledge comes from the kernel, the supervisor and the VMMs:
`scopes/` (processes), `taps.py` (links), `store.py` (disks and requests), `vmm/` (drivers).
"""
