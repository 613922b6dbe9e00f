"""The fields that describe a VM, for a new VM or a template."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from nicegui import ui

from nqrust.contract.images import Image
from nqrust.contract.templates import Template, TemplateSpec
from nqrust.contract.vms import EmptyVolume, GuestAccount, NetworkConfig, RestartPolicy
from nqrust.ui import format as fmt
from nqrust.ui import parts
from nqrust.ui.fields import Rates, Repeated, Size, account_row, lines, volume_row, words

_MEMORY = (64, 96, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
_POLICIES = {
    RestartPolicy.on_failure.value: "when it fails",
    RestartPolicy.always.value: "always",
    RestartPolicy.never.value: "never",
}
PULLED = "another image"  # a value that no image has as its name
NETWORKS = {NetworkConfig.dhcp.value: "DHCP (written into the disk)", NetworkConfig.image.value: "The image's own"}


class VmFields:
    """Built in parts, in the order of the form. `kept`: attachable volumes; None: new ones only. `new_vm`: not a template."""

    def __init__(self, images: list[Image], kept: dict[str, str] | None = None, new_vm: bool = True) -> None:
        self._images = {image.name: image for image in images}
        self._kept, self._new_vm = kept, new_vm

    def size(self) -> None:
        """Image, processors, memory, disk."""
        first = "tiny" if "tiny" in self._images else next(iter(self._images), None)
        shown = {name: _label(image) for name, image in self._images.items()}
        if self._new_vm:
            shown[PULLED] = "A container image, pulled now …"
            first = first or PULLED
        self.image = ui.select(shown, label="Image", value=first, on_change=self._fit).classes("both")
        if self._new_vm:
            self.reference = ui.input("Container image", placeholder="nginx:alpine").classes("both")
            self.reference.props("autocomplete=off autocapitalize=none")
            self.reference.props('hint="Pulled unless it is there. Without a registry: docker.io" hide-bottom-space')
            self.reference.bind_visibility_from(self.image, "value", value=PULLED)
        self.vcpus = ui.number("vCPUs", value=1, min=1, max=32, precision=0)
        self.memory = ui.select({mib: fmt.mib(mib) for mib in _MEMORY}, label="Memory", value=256)
        self.disk = Size("Disk").classes("both")
        self._fit()

    def accounts_fold(self) -> None:
        with fold("Accounts and SSH keys", "key", "Written to the disk before the VM boots"):
            self.keys = ui.textarea("SSH keys of root, one per line").props("autogrow rows=2").classes("full mono")
            self.accounts = Repeated("account", partial(account_row, self._new_vm), 8)

    def volumes_fold(self) -> None:
        with fold("Volumes", "storage", "Extra disks: vdb, vdc …"):
            self.volumes = Repeated("volume", partial(volume_row, self._kept), 8)

    def rates_fold(self) -> None:
        with fold("Rate limits", "speed", "Limits per second. Empty means no limit"):
            self.rates = Rates()

    def restart(self) -> None:
        """Restart policy, network, tags, start with the host."""
        self.policy = ui.select(_POLICIES, label="Restart it", value=RestartPolicy.on_failure.value)
        self.network = ui.select(NETWORKS, label="Network configuration", value=NetworkConfig.dhcp.value).classes("both")
        self.tags = ui.input("Tags, separated by commas", placeholder="web, test").classes("both")
        self.autostart = ui.switch("Start with its host", value=True).classes("both")
        self.commands = ui.switch("Allow commands from the host (nqr vm exec)", value=True).classes("both")

    def _fit(self) -> None:
        """Raise the disk size to the image's minimum."""
        image = self._images.get(self.image.value or "")
        if image is None:
            self.disk.props('label="Disk (default: size of the image)"')
            return
        least = fmt.mib(max(image.min_disk_mib, -(-image.size // 1048576)))
        self.disk.props(f'label="Disk (default: {least})" placeholder="10 GiB"')
        if int(self.memory.value or 0) < image.min_memory_mib:
            self.memory.value = next((mib for mib in _MEMORY if mib >= image.min_memory_mib), self.memory.value)

    def fill(self, template: Template) -> None:
        """Replace the current values with the template's."""
        if template.image not in self._images:  # shown nevertheless: a different image would be misleading
            self.image.set_options({**dict(self.image.options), template.image: f"{template.image} – not ready"})
        self.image.value = template.image
        self.vcpus.value = template.vcpus
        if template.memory_mib not in _MEMORY:
            sizes = sorted({*_MEMORY, template.memory_mib})
            self.memory.set_options({mib: fmt.mib(mib) for mib in sizes})
        self.memory.value = template.memory_mib
        self.disk.value = fmt.mib(template.disk_mib) if template.disk_mib else ""
        self.keys.value = "\n".join(template.ssh_keys)
        self.policy.value = template.restart_policy.value
        self.network.value = template.network_config.value
        self.autostart.value = template.autostart
        self.commands.value = template.guest_exec
        self.tags.value = ", ".join(template.tags)
        self.rates.fill(template.rate_limits)
        self.volumes.clear()
        for volume in template.volumes:
            self.volumes.add(volume)
        self.accounts.clear()
        for account in template.users:
            self.accounts.add(account)

    def spec(self, image: str | None = None) -> TemplateSpec:
        """Return the fields' values, without passwords and kept volumes. `image`: instead of the chosen one. Raises ValidationError and Wrong."""
        return TemplateSpec(
            image=self.image.value or "" if image is None else image,
            vcpus=int(self.vcpus.value or 1),
            memory_mib=int(self.memory.value or 256),
            disk_mib=self.disk.mib(),
            autostart=bool(self.autostart.value),
            restart_policy=RestartPolicy(self.policy.value),
            network_config=NetworkConfig(self.network.value),
            guest_exec=bool(self.commands.value),
            ssh_keys=lines(self.keys.value),
            tags=words(self.tags.value),
            volumes=[EmptyVolume(size_mib=v.size_mib, keep=v.keep) for v in self.volumes.read() if v.size_mib],
            users=[GuestAccount(name=user.name, ssh_keys=user.ssh_keys) for user in self.accounts.read()],
            rate_limits=self.rates.read(),
        )


@contextmanager
def fold(title: str, icon: str, caption: str) -> Iterator[None]:
    """A collapsed part of a form."""
    with ui.expansion(title, icon=icon, caption=caption).classes("fold"), parts.box("fold-inside"):
        yield


def _label(image: Image) -> str:
    return f"{image.name} – {image.description}" if image.description else image.name
