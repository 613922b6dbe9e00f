"""Phase 10: prove the installation, hop by hop, each with its own code. Reports untestable hops as unproven.

`standing.py` checks programs, services, database, bridge and DHCP. `canary.py` boots a VM and watches it, through the manager
or, on a worker node, through the agent.
"""
