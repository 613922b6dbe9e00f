"""Code that all routes share: the gate, problem documents, health and metrics."""
