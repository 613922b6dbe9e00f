"""Network configuration in a VM's disk: DHCP on the VM's NIC, for the configurator that its image has and uses.

image        what was seen of an image, which nobody may trust: bounded, and no more than is asked for
configurator what one is, and what it plans
choose       which one, and the last checks; pure
ext4         looks into an ext4 file system with debugfs(8); diskwrite/network.py looks into mounted ones
cloud_init netplan network_manager networkd ifupdown ifcfg others    one each
"""
