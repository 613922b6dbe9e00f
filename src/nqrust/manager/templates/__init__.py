"""Templates: named settings of VMs."""
