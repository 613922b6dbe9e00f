"""The command line around a VMM: screen for its serial port, and a launcher that allows one VMM and records its end.

    screen -dmS fc-<id> -L -Logfile console.log   the pseudo-terminal; many viewers attach with `screen -x`
      sh                                          ignores SIGHUP, writes the exit status when the VMM has ended
        sh -> VMM                                 own session: the end of screen does not reach it (Firecracker ends on
                                                  SIGHUP); holds flock(2) on `lock`, so a second VMM cannot start

Everything is in argv: a script on disk that root runs would need protection too.
"""

from __future__ import annotations

from nqrust.agent.scopes.port import Launch
from nqrust.agent.scopes.procfs import RUN_DIR_ENV
from nqrust.agent.settings import Settings
from nqrust.contract.names import SCOPE_ENV
from nqrust.host.port import Host

LOCKED = 75
"""Exit status of a launcher that found the lock taken (EX_TEMPFAIL of sysexits.h)."""

_INNER = f'exec 9>"$0" && flock -n 9 || exit {LOCKED}; exec "$@"'
_OUTER = (
    'trap "" HUP; lock=$1 status=$2; shift 2; '
    f'setsid --wait sh -c \'{_INNER}\' "$lock" "$@"; code=$?; '
    f'[ "$code" -eq {LOCKED} ] || echo "$code" >"$status"'
)

SCREENRC = """\
# Every byte belongs to the guest: no command key and no commands (a viewer sends what it likes, and screen is root's).
escape ""
unbindall
startup_message off
deflogin off
vbell off
logfile flush 1
defscrollback 2000
# Keep the viewer's own scrollback instead of the alternate screen.
termcapinfo * ti@:te@
"""


def argv(launch: Launch, settings: Settings) -> tuple[str, ...]:
    """The screen command that runs `launch` detached; it returns at once."""
    return (
        "screen",
        "-c",
        screenrc(settings),
        "-U",
        "-L",
        "-Logfile",
        launch.log,
        "-dmS",
        launch.name,
        "sh",
        "-c",
        _OUTER,
        launch.name,
        launch.lock,
        launch.exit_status,
        *launch.argv,
    )


def environment(name: str, settings: Settings) -> dict[str, str]:
    """Return the environment. SCOPE_ENV identifies every process of the VM; SCREENDIR locates its console."""
    return {
        SCOPE_ENV: name,
        RUN_DIR_ENV: settings.run_dir,
        "SCREENDIR": settings.screen_dir,
        "TERM": "xterm-256color",
    }


def screenrc(settings: Settings) -> str:
    return f"{settings.state_dir}/screenrc"


def prepare(host: Host, settings: Settings) -> None:
    """Create the folder of the console sockets and screen's settings. 0700: a socket gives access to the VM's keyboard."""
    if host.stat(settings.screen_dir) is None:
        host.mkdir(settings.screen_dir, mode=0o700)
    host.set_mode(settings.screen_dir, mode=0o700, owner="root", group="root")
    host.write_file(screenrc(settings), SCREENRC.encode(), mode=0o600)
