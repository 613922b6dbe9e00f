"""The link to the manager: credentials, heartbeats, and the farewell at shutdown."""
