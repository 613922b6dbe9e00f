"""Background work of the manager: it runs operations and reconciles."""
