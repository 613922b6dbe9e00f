"""Sources of images that `nqr image pull` names: each is one file here, and a line in `registry.py`."""
