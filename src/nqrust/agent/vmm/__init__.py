"""Drivers of virtual machine monitors. `port.py` says what a driver does; `registry.py` lists them."""
