"""Going back, as data: a small closed set of versioned verbs. See `record.py` for the form and `verbs.py` for the set."""
