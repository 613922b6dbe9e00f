"""nqr vm: list, show, create, start, stop, restart, pause, resume, rm, console."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nqrust.cli import output, pulling, stopping
from nqrust.cli.connection import ManagerUrl, authority, manager
from nqrust.cli.output import Output, Quiet
from nqrust.cli.vm import copy as vm_copy
from nqrust.cli.vm import exec as vm_exec
from nqrust.cli.vm import limits as vm_limits
from nqrust.cli.vm import logs as vm_logs
from nqrust.cli.vm import options as opt
from nqrust.cli.vm import ports as vm_ports
from nqrust.cli.vm import removing as vm_removing
from nqrust.cli.vm import running as vm_running
from nqrust.cli.vm import snapshots as vm_snapshots
from nqrust.cli.vm import ssh as vm_ssh
from nqrust.cli.vm import unknown as vm_unknown
from nqrust.cli.vm import users as vm_users
from nqrust.cli.vm import volumes as volume_commands
from nqrust.cli.vm import watching as vm_watching
from nqrust.cli.vm.names import checked
from nqrust.contract.text import argument
from nqrust.installer.engine.errors import UsageError

if TYPE_CHECKING:
    from nqrust.client.manager import ManagerClient
    from nqrust.contract.vms import Vm, VmList

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name or id of the VM.")]
Texts = list[str] | None
_STEADY = 2.0  # seconds that a VM must run before it counts as started, unless its guest reports earlier


def build(app: typer.Typer) -> typer.Typer:
    app.command("ls", help="List the VMs.")(ls)
    app.command("show", help="Show the details of a VM.")(show)
    app.command("create", help="Create a VM and start it.")(create)
    vm_running.build(app)
    app.command("start", help="Start a VM.")(start)
    app.command("stop", help="Stop a VM. Ends the VM if the guest does not power off.")(stop)
    app.command("restart", help="Stop and start a VM.")(restart)
    app.command("pause", help="Freeze a VM.")(pause)
    app.command("resume", help="Resume a paused VM.")(resume)
    app.command("limit", help="Limit the network and disk traffic of a VM.")(vm_limits.limit)
    app.command("forward", help="Forward ports of the host to a VM.")(vm_ports.forward)
    app.add_typer(vm_snapshots.build(), name="snapshot", help="Manage the snapshots of a VM.")
    app.command("rm", help="Delete VMs with their disks and snapshots.")(vm_removing.rm)
    app.command("adopt", help="Make a record for a VM without one. The VM keeps running.")(vm_unknown.adopt)
    app.command("console", help="Attach to the serial console. Ctrl-] leaves, and the VM keeps running.")(console)
    vm_exec.build(app)
    vm_copy.build(app)
    vm_ssh.build(app)
    vm_logs.build(app)
    return app


def ls(
    host: Annotated[str | None, typer.Option("--host", metavar="NAME", help="Only on this host.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", metavar="TAG", help="Only with this tag.")] = None,
    unknown: vm_unknown.ListUnknown = False,
    watch: vm_watching.Watch = False,
    out: Output = "text",
    quiet: Quiet = False,
    url: ManagerUrl = None,
) -> None:
    from nqrust.client import calls

    out = output.chosen(out, quiet)
    if watch:
        vm_watching.refuse_documents(out)
    with manager(url) as client:
        if unknown:
            vm_unknown.ls(client, out)
        elif watch:
            vm_watching.watch(
                lambda: client.send(calls.list_vms(host=host, tag=tag)), lambda found: _list(found, out, bool(host or tag))
            )
        else:
            _list(client.send(calls.list_vms(host=host, tag=tag)), out, bool(host or tag))


def _list(found: VmList, out: str, chosen: bool) -> None:
    output.listing(
        found,
        out,
        ("name", "state", "ip", "host", "image", "vcpus", "memory", "id", "disk", "wanted", "tags", "created", "error"),
        [
            (
                v.name, v.state, v.ip, v.host, v.image, v.vcpus, f"{v.memory_mib} MiB", v.id,
                f"{v.disk_mib} MiB", v.desired_state, v.tags, v.created_at, v.error,
            )
            for v in found.items
        ],
        wide=5,
        empty="No VM matches. `nqr vm ls` lists all."
        if chosen
        else "There is no VM. Make one with: nqr vm create web1 --image tiny",
    )  # fmt: skip


def show(name: Name, out: Output = "text", url: ManagerUrl = None) -> None:
    from nqrust.client import calls

    with manager(url) as client:
        found = client.send(calls.get_vm(name))
    _print(found, out)


def create(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Name of the VM and hostname of the guest.")] = None,
    named: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The same as the argument NAME.")] = None,
    image: Annotated[str | None, typer.Option("--image", metavar="IMAGE", help="Image to boot. Pulled if missing.")] = None,
    template: Annotated[
        str | None, typer.Option("--template", metavar="NAME", help="Template for the options that you do not give.")
    ] = None,
    vcpus: opt.Vcpus = None,
    memory: opt.Memory = None,
    disk: opt.Disk = None,
    ssh_key: opt.SshKeys = None,
    tag: opt.Tags = None,
    forward: Annotated[Texts, typer.Option("--forward", metavar="HOST:GUEST[/udp]", help="Forwarded port. Repeatable.")] = None,
    volume: Annotated[
        Texts,
        typer.Option(
            "--volume",
            metavar="SIZE[:keep]|NAME",
            help="New volume (512M, or 2G:keep) or name of a kept volume. Repeatable.",
        ),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="NAME", help="Account in the guest. Gets the --ssh-key instead of root."),
    ] = None,
    password_hash_file: Annotated[
        str | None,
        typer.Option(
            "--password-hash-file", metavar="FILE", help="File with the password hash for --user (see `openssl passwd -6`)."
        ),
    ] = None,
    net_rx: opt.NetRx = None,
    net_tx: opt.NetTx = None,
    disk_rate: opt.DiskRate = None,
    disk_iops: opt.DiskIops = None,
    network_config: opt.NetworkConfig = None,
    guest_exec: opt.GuestExec = None,
    user_data: opt.UserData = None,
    host: Annotated[str | None, typer.Option("--host", metavar="NAME", help="Place the VM on this host.")] = None,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Start the VM.")] = True,
    autostart: opt.Autostart = None,
    restart_policy: opt.Restart = None,
    wait: Annotated[
        bool | None,
        typer.Option(
            "--wait/--no-wait",
            help="Wait until the guest agent reports, or do not wait (default: wait until the VM runs).",
            callback=opt.timed,
        ),
    ] = None,
    timeout: opt.Timeout = 180.0,
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    from nqrust.client import calls

    name = opt.one_name("vm create", name, named)
    if image is None and template is None:
        raise UsageError("NQR-USE-003", "Neither --image nor --template is given.", "Name an image: nqr image ls lists them.")
    keys = opt.keys(ssh_key or [])
    users = vm_users.accounts(user, keys, password_hash_file)
    asked = checked(
        template=template, image=image, host=host, forwards=vm_ports.parse(forward or []) or None, users=users or None,
        ssh_keys=None if user else keys or None,
        **opt.fields(
            vcpus=vcpus, memory=memory, disk=disk, tags=tag, volumes=volume, autostart=autostart, restart=restart_policy,
            limits=opt.rates(net_rx, net_tx, disk_rate, disk_iops), network=network_config, guest_exec=guest_exec,
        ),
        name=name, start=start, user_data=opt.user_data(user_data),
    )  # fmt: skip
    with manager(url) as client:
        if image is not None:
            asked = asked.model_copy(update={"image": pulling.present(client, image)})
        made = client.send(calls.create_vm(asked))
        until: Any = "stopped" if not start else "guest_up" if wait else "running"
        if wait is not False:
            with _created(made.name):
                made = _waited(client, made, until, timeout, f"create VM {made.name}", 0.0 if wait else _STEADY)
        if keys:
            vm_ssh.warn_without_server(client, made)
    output.details(made, out, [("id", made.id), ("name", made.name), ("state", made.state), ("ip", made.ip)])


def start(name: Name, wait: opt.Wait = True, timeout: opt.Timeout = 120.0, out: Output = "text", url: ManagerUrl = None) -> None:
    _verb("start_vm", name, "running", wait, timeout, out, url)


def pause(name: Name, wait: opt.Wait = True, timeout: opt.Timeout = 60.0, out: Output = "text", url: ManagerUrl = None) -> None:
    _verb("pause_vm", name, "paused", wait, timeout, out, url)


def resume(name: Name, wait: opt.Wait = True, timeout: opt.Timeout = 60.0, out: Output = "text", url: ManagerUrl = None) -> None:
    _verb("resume_vm", name, "running", wait, timeout, out, url)


def restart(
    name: Name,
    force: opt.Force = False,
    wait: opt.Wait = True,
    timeout: opt.Timeout = 120.0,
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    from nqrust.client import calls
    from nqrust.contract.vms import StopRequest

    with manager(url) as client:
        found = client.send(calls.restart_vm(name, StopRequest(force=force)))
        if wait:
            found = _waited(client, found, "running", timeout, f"restart VM {found.name}", _STEADY)
    _print_short(found, out)


def stop(
    name: Name,
    force: opt.Force = False,
    grace: Annotated[
        int,
        typer.Option("--grace", metavar="SECONDS", min=0, max=600, help="Time for the guest to power off, in seconds."),
    ] = 20,
    wait: opt.Wait = True,
    timeout: opt.Timeout = 120.0,
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    from nqrust.client import calls
    from nqrust.contract.vms import StopRequest

    with manager(url) as client:
        found = client.send(calls.stop_vm(name, StopRequest(force=force, timeout_seconds=grace)))
        if wait:
            found = _waited(client, found, "stopped", timeout, f"stop VM {found.name}")
    _print_short(found, out)


def console(
    name: Name,
    log: Annotated[bool, typer.Option("--log", help="Print the earlier output of the console and exit.")] = False,
    url: ManagerUrl = None,
) -> None:
    from nqrust.client import calls

    with manager(url) as client:
        if log:
            said = client.send(calls.console_log(name))
            typer.echo(output.without_sequences(said) if sys.stdout.isatty() else said, nl=False)
            return
        from nqrust.cli.vm.console import attach
        from nqrust.client.call import websocket_url

        address = websocket_url(client.base_url, client.send(calls.console_ticket(name)))
    raise typer.Exit(attach(address, name, authority(client.base_url)))


def _verb(method: str, name: str, condition: Any, wait: bool, timeout: float, out: str, url: str | None) -> None:
    from nqrust.client import calls

    with manager(url) as client:
        found: Vm = client.send(getattr(calls, method)(name))
        if wait:
            found = _waited(client, found, condition, timeout, f"{method.removesuffix('_vm')} VM {found.name}", _STEADY)
    _print_short(found, out)


def _waited(client: ManagerClient, vm: Vm, until: Any, timeout: float, doing: str, steady: float = 0.0) -> Vm:
    """Wait, and return the VM as it then is. A signal ends the wait, not the change."""
    with stopping.told(f"The manager continues to {doing}.", f"nqr vm show {argument(vm.name)}"):
        return client.wait_for(vm.id, until, timeout, since=vm.generation, steady=steady) or vm


@contextmanager
def _created(name: str) -> Iterator[None]:
    """Give the error of a VM that was created and failed a cure: its name is in use from then on."""
    from nqrust.client.errors import WaitFailed, WaitTimeout

    try:
        yield
    except WaitFailed as error:
        if not isinstance(error, WaitTimeout):
            said = argument(name)
            error.cure = f"Delete it with `nqr vm rm {said}`, then create it with other options. `nqr vm show {said}` tells more."
        raise


def _print_short(found: Vm, out: str) -> None:
    output.details(found, out, [("id", found.id), ("name", found.name), ("state", found.state), ("ip", found.ip)])


def _limits(found: Vm) -> str | None:
    if found.started_at is None:
        return None
    limits = found.limits
    if limits is None:
        return "none: this host cannot limit it"
    parts = [(limits.memory_mib, "MiB"), (limits.cpu_percent, "% of a CPU"), (limits.tasks, "tasks")]
    return ", ".join(f"{value} {unit}" if value is not None else f"any {unit}" for value, unit in parts)


def _print(found: Vm, out: str) -> None:
    guest = found.guest
    rows: list[tuple[str, object]] = [
        ("id", found.id), ("name", found.name), ("state", found.state), ("wanted", found.desired_state),
        ("error", found.error), ("exit code", found.exit_code), ("command", " ".join(found.command)), ("host", found.host), ("ip", found.ip), ("mac", found.mac), ("image", found.image),
        ("vcpus", found.vcpus), ("memory", f"{found.memory_mib} MiB"), ("disk", f"{found.disk_mib} MiB"),
        ("volumes", volume_commands.told(found.volumes)),
        ("rate limits", vm_limits.told(found.rate_limits)), ("network", found.network_written or ("left to the image" if found.network_config == "image" else None)),
        ("tap", found.tap), ("ports", [f"{p.host_port}:{p.guest_port}/{p.protocol}" for p in found.forwards]), ("boot id", found.boot_id), ("autostart", found.autostart),
        ("restart", found.restart_policy), ("commands", "allowed" if found.guest_exec else "off"), ("tags", found.tags), ("users", found.users), ("created", found.created_at),
        ("started", found.started_at), ("guest up", found.guest_up_at), ("limits", _limits(found)),
    ]  # fmt: skip
    if guest is not None:
        used = guest.memory_total_kib - guest.memory_available_kib
        rows += [
            ("guest cpu", f"{guest.cpu_percent:.0f} %"),
            ("guest memory", f"{used // 1024} of {guest.memory_total_kib // 1024} MiB used"),
            ("guest gateway", f"{guest.gateway} {'answers' if guest.gateway_reachable else 'not proven'}"),
        ]
    output.details(found, out, rows)
