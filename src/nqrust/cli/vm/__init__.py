"""`nqr vm` and `nqr volume`."""
