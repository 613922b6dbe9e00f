"""Drivers of virtual machine monitors. `port.py` defines a driver; `registry.py` lists them."""
