"""QEMU, under KVM or under TCG (emulation)."""
