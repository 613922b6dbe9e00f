"""NQRust-MicroVM: a self-hosted microVM platform and the installer that sets it up."""

__version__ = "0.2.0"
