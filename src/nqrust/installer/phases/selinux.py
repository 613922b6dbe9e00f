"""SELinux: types for nqr's files, on hosts that have it. nqr never changes the mode of SELinux, booleans or the policy.

systemd starts nqr's services unconfined if their programs have the type bin_t. dnsmasq is confined, in nqr's service too. It
writes leases only into files of the type dnsmasq_lease_t. See dnsmasq.fc and corecommands.fc of selinux-policy.
"""

from __future__ import annotations

from nqrust.contract import paths
from nqrust.installer.context import Context
from nqrust.installer.engine.step import Step
from nqrust.installer.verbs.selinux.context import FileContext
from nqrust.installer.verbs.selinux.labels import Labels


def steps(context: Context) -> list[Step]:
    """Return the steps that come before the services start. None on a host without SELinux."""
    if not context.facts.selinux:
        return []
    layout = context.layout
    rules: list[Step] = []
    if not layout.install_dir.startswith("/opt/"):  # the policy knows programs below /opt
        rules += [FileContext(f"{layout.install_dir}/(.*/)?{folder}(/.*)?", "bin_t") for folder in ("bin", "libexec")]
    if context.settings.has_agent:
        rules.append(FileContext(f"{paths.DHCP_STATE_DIR}(/.*)?", "dnsmasq_lease_t"))
    return [*rules, Labels((layout.install_dir, layout.config_dir, paths.STATE_DIR))]
