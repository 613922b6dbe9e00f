"""Templates: what VMs are made from, under a name."""
