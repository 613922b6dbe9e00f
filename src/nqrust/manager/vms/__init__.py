"""VMs: routes, requests, placement, addresses, volumes, snapshots, forwards and limits."""
