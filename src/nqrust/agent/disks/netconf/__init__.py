"""Network configuration in a VM's disk: DHCP on the VM's NIC, for the configurator that the image uses.

image        facts about an untrusted image: bounded, and only the requested ones
configurator the interface of a configurator and its plan
choose       picks one and makes the last checks; pure
ext4         looks into an ext4 file system with debugfs(8); diskwrite/network.py looks into mounted ones
cloud_init netplan network_manager networkd ifupdown ifcfg others    one each
"""
