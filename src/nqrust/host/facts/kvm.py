"""KVM, tested by opening it, not by its presence. Only booting proves that a guest boots; this module does not do that."""

from __future__ import annotations

from nqrust.host.errors import PathError, PathMissing
from nqrust.host.facts.model import Cpu, Kvm
from nqrust.host.facts.reading import text
from nqrust.host.port import Host

API_VERSION = 12  # stable since Linux 2.6.22 (Documentation/virt/kvm/api.rst, 4.1)

_VENDORS = (
    # The strings that systemd-detect-virt(1) looks for in the DMI tables, in its order.
    ("KVM", "kvm"),
    ("OpenStack", "kvm"),
    ("KubeVirt", "kvm"),
    ("Google Compute Engine", "google"),
    ("Amazon EC2", "amazon"),
    ("QEMU", "qemu"),
    ("VMware", "vmware"),
    ("VMW", "vmware"),
    ("innotek GmbH", "oracle"),
    ("VirtualBox", "oracle"),
    ("Oracle Corporation", "oracle"),
    ("Xen", "xen"),
    ("Bochs", "bochs"),
    ("Parallels", "parallels"),
    ("BHYVE", "bhyve"),
    ("Hyper-V", "microsoft"),
    ("Apple Virtualization", "apple"),
)


def probe(host: Host, cpu: Cpu) -> Kvm:
    nested = None
    for module in ("kvm_intel", "kvm_amd"):
        nested = parse_parameter(text(host, f"/sys/module/{module}/parameters/nested")) if nested is None else nested
    dmi = {
        name: text(host, f"/sys/class/dmi/id/{name}").strip()
        for name in ("product_name", "sys_vendor", "board_vendor", "bios_vendor")
    }
    virtual = parse_virtual_host(dmi, cpu.flags, text(host, "/sys/hypervisor/type").strip())
    found = host.stat("/dev/kvm")
    if found is None:
        return Kvm(False, False, "/dev/kvm is not there", nested=nested, virtual_host=virtual, module=_module(host))
    usable, reason = _try(host)
    return Kvm(True, usable, reason, found.mode, found.group, nested, virtual, _module(host))


def _module(host: Host) -> str:
    """Return the module behind /dev/kvm. A part that is built into the kernel has a folder here too, if it has parameters."""
    found = sorted(path.rpartition("/")[2] for path in host.glob("/sys/module/kvm_*"))
    return next((name for name in found if name in ("kvm_intel", "kvm_amd")), found[0] if found else "")


def parse_parameter(content: str) -> bool | None:
    """Parse a boolean parameter of a kernel module: Y, N, 1 or 0; None for anything else."""
    return {"Y": True, "1": True, "N": False, "0": False}.get(content.strip())


def parse_virtual_host(dmi: dict[str, str], flags: frozenset[str], hypervisor: str) -> str:
    """Return the hypervisor of this machine: kvm, vmware, ...; "" on bare metal.

    `vm-other`: the processor shows a hypervisor and nothing names it.
    """
    if hypervisor:
        return hypervisor
    if dmi.get("sys_vendor") == "Microsoft Corporation" and dmi.get("product_name") == "Virtual Machine":
        return "microsoft"
    for value in dmi.values():
        for prefix, name in _VENDORS:
            # Amazon's bare-metal instances have the vendor too, but their processor shows no hypervisor.
            if value.startswith(prefix) and (name not in ("amazon", "google") or "hypervisor" in flags):
                return name
    return "vm-other" if "hypervisor" in flags else ""


def _try(host: Host) -> tuple[bool, str]:
    try:
        version = host.kvm_api_version()
    except PathMissing:
        return False, "/dev/kvm is there but no driver answers behind it"
    except PathError as error:
        return False, f"/dev/kvm cannot be opened ({str(error).partition(': ')[2] or error})"
    if version != API_VERSION:
        return False, f"KVM answers with API version {version} instead of {API_VERSION}"
    return True, ""
