"""Shell completion: scripts for bash, zsh and fish, and the answers that they ask `nqr` for."""
