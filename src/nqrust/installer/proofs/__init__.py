"""Phase 10: prove it, hop by hop, each with a code of its own. What cannot be proven is reported as unproven.

`standing.py` looks at what stands (programs, services, database, bridge, DHCP); `canary.py` boots a VM and watches it,
through the manager or, on a worker node, through the agent itself.
"""
