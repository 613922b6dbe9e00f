"""Users of this host that may open /dev/kvm, such as libvirt's for its VMs: those of the group kvm, without nqr's own."""

from __future__ import annotations

from nqrust.contract import names as product
from nqrust.host.facts.reading import text
from nqrust.host.port import Host

FUNCTIONS = rf"""kvm_users() {{ # users that may open /dev/kvm
    gid=$(sed -n 's/^{product.KVM_GROUP}:[^:]*:\([0-9]*\):.*/\1/p' /etc/group)
    sed -n 's/^{product.KVM_GROUP}:[^:]*:[^:]*://p' /etc/group | tr ',' '\n'
    [ -z "$gid" ] || awk -F : -v gid="$gid" '$4 == gid {{ print $1 }}' /etc/passwd
}}
kvm_user_since() {{ # module, users from when it was not loaded: another one
    case $1 in kvm*) ;; *) return 0 ;; esac
    shift
    kvm_users | grep -vxF -e "$(printf '%s\n' '' {product.SERVICE_USER} "$@")" | head -n 1
}}
"""


def kvm_users(host: Host, module: str) -> tuple[str, ...]:
    """Return them in the order of the files. Other modules than KVM's have none: the kernel loads them when somebody opens their
    device."""
    groups = _rows(host, "/etc/group") if module.startswith("kvm") else []
    found: list[str] = []
    for _, _, number, members in (row[:4] for row in groups if row[0] == product.KVM_GROUP and len(row) > 3):
        found += members.split(",")
        found += [row[0] for row in _rows(host, "/etc/passwd") if row[3:4] == [number]]
    return tuple(dict.fromkeys(one for one in found if one not in ("", product.SERVICE_USER)))


def _rows(host: Host, path: str) -> list[list[str]]:
    return [line.split(":") for line in text(host, path).splitlines()]
