"""Who may do what: users, tokens, sign-in, and the guards that routes ask."""
