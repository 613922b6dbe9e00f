"""VMs as groups of processes that outlive the agent.

`port.py` defines a scope. `systemd.py` and `process.py` implement it; `chooser.py` chooses between them.
"""
