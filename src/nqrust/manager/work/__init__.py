"""What the manager does without being asked by a request: it drives operations and reconciles."""
