"""The way into guests: connections to their guest agents, and the sessions on them."""
