"""The command line around a VMM: screen for its serial port, and a launcher that allows one VMM and records its end.

    sh (root)                       own session and namespaces (mount, network, IPC); holds flock(2) on `lock`, writes the
                                    exit status
      screen -dmS fc-<id> (user)    the pseudo-terminal; many viewers attach with `screen -x`
        sleep (user)                holds the terminal open, and is all that runs in it
      VMM (user)                    own session: the end of screen does not reach it (Firecracker ends on SIGHUP)

The mount namespace shows the host's files as view.py says. The network namespace has no interface but a TAP that is down,
until the VMM has that open and the agent takes it away (network/taps.py). So no process of the VM reaches the host's network.

The user is a number of this VM alone (users.py). Only the launcher is root. The shell in screen writes its terminal into a FIFO
of root's, which the user cannot replace. The launcher reads one short message, checks the terminal that it opened, and passes
no descriptor of its own on. The mount namespace shows screen a passwd(5) with its user, without which it does not start.

Everything is in argv: a script on disk that root runs would need protection too.
"""

from __future__ import annotations

import contextlib
import os
import shlex

from nqrust.agent import users, view
from nqrust.agent.scopes import limits
from nqrust.agent.scopes.port import Launch
from nqrust.agent.scopes.procfs import RUN_DIR_ENV
from nqrust.agent.settings import Settings
from nqrust.contract.names import SCOPE_ENV
from nqrust.host.errors import NoSpace, translating
from nqrust.host.port import Host

_OPENS = 5  # seconds until screen has opened a terminal
LOCKED = 75
"""Exit status of a launcher that found the lock taken (EX_TEMPFAIL of sysexits.h)."""

_LAUNCHER = f"""
exec </dev/null >/dev/null 2>&1
trap "" HUP
directory=$1 user=$2 screen=$3 become=$4 names=$5 view=$6 closed=$7 holder= terminal=
shift 7
end_terminal() {{ [ -z "$holder" ] || eval "$become" sh -c "'kill \\$0'" '"$holder"'; }} # screen reads what is left, then it ends too
failed() {{ echo "launcher: $1" >>"$directory/console.log"; echo 70 >"$directory/exit-status"; end_terminal; exit 70; }}
umask 077
: >>"$directory/lock"
umask 022
exec 9<"$directory/lock" # open for reading: a file that is open for writing would keep its file system writable
flock -n 9 || exit {LOCKED}
[ ! -e "$directory/exit-status" ] || rm -f "$directory/exit-status"
echo 0 >"$directory/exit-status-0"
eval "$names" || failed "the VM's namespaces could not be set up"
exec 7<>"$directory/terminal"
eval "$view" 7>&- 9>&- & # while screen starts, the rest is mounted
view=$!
eval "$screen" 7>&- 9>&- || failed "screen could not be started"
line=$(timeout {_OPENS} dd bs=64 count=1 status=none <&7 7>&- 9>&-) # one write(2) of up to a pipe's buffer is one read(2)
[ "$line" != "${{line#* }}" ] || failed "screen opened no terminal"
wait "$view" || failed "the VM's namespaces could not be set up"
terminal=${{line#* /dev/pts/}}
case $terminal in *[!0-9]*) failed "screen has no terminal" ;; esac
case ${{line%% *}} in *[!0-9]*) failed "screen has no process" ;; *) holder=${{line%% *}} ;; esac
eval "$closed" 7>&- 9>&- || failed "the VM's namespaces could not be set up"
( # no session leader: the terminal does not become the launcher's
    {{
        [ "$(stat -L -c %u /proc/self/fd/8)" = "$user" ] || failed "the terminal does not belong to the VM's user"
        exec setsid --wait "$@" <&8 >&8 2>&1 7>&- 8>&- 9>&-
    }} 8<>"/dev/pts/$terminal"
    failed "the terminal cannot be opened"
)
status=$?
# On a full disk, the end that was written before takes the name: a guest that powers off is no VMM that failed.
[ "$status" = 0 ] && mv -f "$directory/exit-status-0" "$directory/exit-status" || echo "$status" >"$directory/exit-status"
end_terminal
"""
_TERMINAL = 'echo "$$ $(tty)" >"$0" && exec sleep infinity'

SCREENRC = """\
# Every byte belongs to the guest: no command key and no commands (a viewer sends what it likes).
escape ""
unbindall
startup_message off
deflogin off
vbell off
logfile flush 0
defscrollback 2000
# Keep the viewer's own scrollback instead of the alternate screen.
termcapinfo * ti@:te@
"""


def argv(launch: Launch, settings: Settings) -> tuple[str, ...]:
    """The command that runs `launch` detached; it returns at once."""
    screen = ("screen", "-c", screenrc(settings), "-U")
    in_terminal = ("sh", "-c", _TERMINAL, _told(launch.directory))
    start = (*screen, "-L", "-Logfile", launch.log, "-dmS", launch.name, *in_terminal)
    return (
        "setsid",
        "--fork",
        *users.limited(launch.limits.tasks if launch.limits else limits.TASKS, launch.largest_file),
        *users.VIEW,
        "sh",
        "-c",
        _LAUNCHER,
        launch.name,
        launch.directory,
        str(launch.user),
        shlex.join((*users.become(launch.user), *start)),
        shlex.join(users.become(launch.user)),
        view.mounted(_names(launch.directory), f"{launch.directory}/mounts-of-screen"),
        _view(launch, settings),
        view.closed(launch.directory),
        *launch.argv,
    )


def _names(directory: str) -> tuple[view.Mount, ...]:
    """What screen needs: a passwd(5) with its user. The VM's folder is a mount of its own, which stays writable."""
    return (view.bind(directory, directory), view.bind(users.passwd(directory), "/etc/passwd"))


def _rest(directory: str, settings: Settings) -> tuple[view.Mount, ...]:
    return (*view.hidden(directory, *_needed(settings)), *view.devices(directory))


def _of_viewer(directory: str, settings: Settings) -> tuple[view.Mount, ...]:
    return (*_names(directory), *_rest(directory, settings))


def _viewers_table(directory: str) -> str:
    """Written when the VM starts: a full disk must not keep anybody from a console."""
    return f"{directory}/mounts-of-viewer"


def _view(launch: Launch, settings: Settings) -> str:
    """Make the VM's namespaces ready for its VMM. The TAP is made beside the mounts: the VMM waits for both."""
    mounts = (*_rest(launch.directory, settings), *(view.bind(*pair) for pair in launch.mounts))
    ready = f"{view.mounted(mounts, f'{launch.directory}/mounts')} && {view.filled(launch.directory)}"
    if not launch.tap:
        return ready
    tap = shlex.join(("ip", "tuntap", "add", "dev", launch.tap, "mode", "tap", "user", str(launch.user)))
    return f"{tap} & {ready} && wait $!"


def environment(launch: Launch, settings: Settings) -> dict[str, str]:
    """By SCOPE_ENV every process of the VM can be found; SCREENDIR is where its console is."""
    return {
        SCOPE_ENV: launch.name,
        RUN_DIR_ENV: settings.run_dir,
        "SCREENDIR": screen_dir(settings, launch.user),
        "HOME": "/",
        "TERM": "xterm-256color",
    }


def viewer(launch_user: int, directory: str, session: str, settings: Settings) -> tuple[str, ...]:
    """The command that attaches to a console, as the VM's user. Its terminal must belong to that user.

    It is no part of the scope, so it is shielded from the VMM. screen is not: it runs what its user's programs ask for, and the
    VMM would get the shield from it."""
    stage, own = shlex.quote(view.stage(directory)), shlex.quote(view.own_devices(directory))
    lines = [
        f"{{ [ -d {stage} ] || mkdir -p {stage} {own}; }}",  # of a VM that runs since before there were these
        view.mounted(_of_viewer(directory, settings), _viewers_table(directory), again=False),
        view.filled(directory),
        view.closed(directory),
    ]
    attach = ("screen", "-c", screenrc(settings), "-U", "-x", session)
    viewer = ("sh", "-c", f'{" && ".join(lines)} && exec "$@"', "viewer", *users.become(launch_user, shielded=True), *attach)
    return (*users.limited(limits.TASKS), *users.VIEW, *viewer)


def _told(directory: str) -> str:
    """The FIFO in which the launcher is told the terminal."""
    return f"{directory}/terminal"


def _make_fifo(path: str, writer: int) -> None:
    """Make a new FIFO that root reads and the user `writer` alone writes, in a folder of root's."""
    with translating(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.mkfifo(path, 0o600)
        os.chown(path, writer, 0)
        os.chmod(path, 0o200)


def _needed(settings: Settings) -> tuple[str, ...]:
    """Where screen and VMMs have their files."""
    return (settings.state_dir, settings.run_dir, settings.image_root, settings.bin_dir)


def screenrc(settings: Settings) -> str:
    return f"{settings.state_dir}/screenrc"


def screen_dir(settings: Settings, user: int) -> str:
    """The folder of the sockets of one VM's console."""
    return f"{settings.screen_dir}/{user}"


def prepare(host: Host, settings: Settings) -> None:
    """Make what all consoles need: the folder of their sockets and screen's settings. VMs' users reach both by name and can
    list neither. A full disk keeps no agent from its start that has both: its users then delete what they can spare."""
    host.set_mode(settings.state_dir, mode=0o711, owner="root", group="root")
    if host.stat(settings.screen_dir) is None:
        host.mkdir(settings.screen_dir, mode=0o711)
    host.set_mode(settings.screen_dir, mode=0o711, owner="root", group="root")
    _keep_settings(host, screenrc(settings), SCREENRC.encode())


def _keep_settings(host: Host, path: str, wanted: bytes) -> None:
    there = host.exists(path)
    if there and host.read_bytes(path) == wanted:
        host.set_mode(path, mode=0o644, owner="root", group="root")
        return
    try:
        host.write_file(path, wanted, mode=0o644)
    except NoSpace:
        if not there:
            raise


def prepare_vm(host: Host, settings: Settings, launch_user: int, directory: str) -> None:
    """Make what the VM's user may write to, and nothing else: its console log, an empty `run` folder and its screen folder.
    Nothing of an earlier run is left there. Call it while no process of the VM runs."""
    owner = str(launch_user)
    for folder in (view.stage(directory), view.own_devices(directory)):
        host.remove_tree(folder, synced=False)
        host.mkdir(folder, mode=0o755, synced=False)
    host.remove_tree(f"{directory}/run", synced=False)
    host.mkdir(f"{directory}/run", mode=0o700, owner=owner, group=owner, synced=False)
    log = f"{directory}/console.log"
    if host.stat(log) is None:
        host.write_file(log, b"", mode=0o600, owner=owner, group=owner, synced=False)
    host.set_mode(log, mode=0o600, owner=owner, group=owner)
    host.write_file(users.passwd(directory), users.passwd_text(launch_user).encode(), mode=0o644, synced=False)
    _make_fifo(_told(directory), launch_user)
    table = view.table(_of_viewer(directory, settings)).encode()
    host.write_file(_viewers_table(directory), table, mode=0o600, synced=False)
    sockets = screen_dir(settings, launch_user)
    host.remove_tree(sockets, synced=False)
    host.mkdir(sockets, mode=0o700, owner=owner, group=owner, synced=False)
