"""What every part of the running manager shares. Knows no resource."""
