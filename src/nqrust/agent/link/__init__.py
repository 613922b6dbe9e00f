"""The link to the manager: credentials, heartbeats, what is said on the way out."""
