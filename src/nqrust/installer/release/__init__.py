"""Where a platform release comes from, and how it is made ready on this host. See `sources.py`."""
