"""Files that nqr renders onto a host: pure functions from settings to text. Tests compare each with a golden file."""
