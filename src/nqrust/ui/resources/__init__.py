"""Style sheet and icon of the web UI."""
