"""The four screens, one a file, in the order of a visit."""
