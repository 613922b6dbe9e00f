"""A bundle: one file with all that an installation needs, for hosts without a network."""
