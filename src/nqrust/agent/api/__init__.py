"""The agent's HTTP interfaces: `app.py` for the manager, `relay.py` for guests."""
