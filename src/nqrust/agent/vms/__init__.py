"""VMs of this host: their records, their state, their snapshots, and the verbs that change them."""
