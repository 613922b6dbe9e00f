"""Access control: users, tokens, sign-in, and the guards of routes."""
