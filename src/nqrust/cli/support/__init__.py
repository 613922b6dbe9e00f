"""`nqr logs` and `nqr support-bundle`."""
