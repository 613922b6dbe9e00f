"""The network of VMs: TAPs, addresses by DHCP, forwarded ports, rate limits."""
