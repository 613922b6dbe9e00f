"""The guide of `nqr install` at a terminal: four screens that lead to the same operations as the options do."""
