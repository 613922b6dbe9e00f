"""The sources of a platform release, and the steps that prepare it on this host. See `sources.py`."""
