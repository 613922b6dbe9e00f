"""VMs as groups of processes that outlive the agent. `port.py` says what a scope is; `systemd.py` and `process.py` are
the two ways to have one, chosen by `chooser.py`."""
