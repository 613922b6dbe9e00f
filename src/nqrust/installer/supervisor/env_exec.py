"""Program that becomes a service's process: systemd's work between fork and exec, for other supervisors.

    python -I -m nqrust.installer.supervisor.env_exec [--user U] [--group G] [--env-file F] [--setenv K=V] ...
    [--no-new-privileges] [--capabilities C,C] [--memory MIB] -- ARGV

The environment starts clean, then gets the file and the `--setenv` values. Root reads the file, so the service needs no
access to it. Then the process drops to the user and executes ARGV. `--hold-stop JSON`: run ARGV to its end, and on SIGTERM
run the argv in JSON (a oneshot service that counts as active until stopped). Standard library only, because this runs at
every start of every service.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import grp
import json
import os
import pwd
import resource
import signal
import sys

_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_CAPABILITY_NUMBERS = 64
_CAPABILITIES = {"CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_NET_BIND_SERVICE": 10, "CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}
"""Numbers of capabilities(7) that our services keep, from linux/capability.h."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def parse_env_file(text: str) -> dict[str, str]:
    """Parse the form of systemd.exec(5) EnvironmentFile=: `NAME=value` lines, `#` and `;` comments, single or double quotes,
    backslash escapes outside single quotes. A backslash at the end of a line continues it. No expansion."""
    found: dict[str, str] = {}
    for line in text.replace("\\\n", "").splitlines():
        line = line.strip()
        name, equals, raw = line.partition("=")
        if not line or line[0] in "#;" or not equals or not name.strip().isidentifier():
            continue
        found[name.strip()] = _unquoted(raw.strip())
    return found


def _unquoted(raw: str) -> str:
    out: list[str] = []
    quote, i = "", 0
    while i < len(raw):
        char = raw[i]
        if char == "\\" and quote != "'" and i + 1 < len(raw):
            follower = raw[i + 1]
            # Within double quotes a backslash escapes only these characters.
            out.append(follower if quote != '"' or follower in '"\\`$' else char + follower)
            i += 2
            continue
        if quote and char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        else:
            out.append(char)
        i += 1
    return "".join(out)


def environment(user: str, env_file: str | None, assignments: list[str]) -> dict[str, str]:
    entry = pwd.getpwnam(user)
    env = {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "HOME": entry.pw_dir,
        "USER": user,
        "LOGNAME": user,
        "SHELL": entry.pw_shell,
    }
    if env_file:
        with open(env_file, encoding="utf-8") as file:
            env |= parse_env_file(file.read())
    env |= dict(assignment.partition("=")[::2] for assignment in assignments)
    return env


def become(user: str, group: str | None) -> None:
    """Drop to the user permanently: groups first, then gid, then uid (setuid(2))."""
    entry = pwd.getpwnam(user)
    gid = grp.getgrnam(group).gr_gid if group else entry.pw_gid
    if os.geteuid() == 0 and (entry.pw_uid, gid) != (0, 0):
        os.initgroups(user, gid)
        os.setgid(gid)
        os.setuid(entry.pw_uid)


def keep_capabilities(names: str) -> None:
    """Drop all capabilities but these (names with commas between) from the bounding set, so that no program that is executed
    gets one (capabilities(7)). A container that does not allow it continues without."""
    kept = {_CAPABILITIES[name] for name in names.split(",") if name}
    libc = ctypes.CDLL(None)
    for number in range(_CAPABILITY_NUMBERS):
        if number not in kept:
            libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0)


def no_new_privileges() -> None:
    """No program that is executed gains privileges from a setuid bit or file capabilities (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0)


def _run(argv: list[str], env: dict[str, str]) -> int:
    pid = os.posix_spawnp(argv[0], argv, env, setsigmask=[])  # without the signals that this process blocks
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def hold(argv: list[str], stop: list[str], env: dict[str, str]) -> int:
    """Run `argv`, wait for SIGTERM or SIGINT, run `stop`. An early signal stays pending."""
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    code = _run(argv, env)
    if code != 0:
        return code if code > 0 else 1
    signal.sigwait(signals)
    if not stop:
        return 0
    return _run(stop, env)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="env_exec")
    parser.add_argument("--user", default="root")
    parser.add_argument("--group")
    parser.add_argument("--env-file")
    parser.add_argument("--setenv", action="append", default=[])
    parser.add_argument("--directory", default="/")
    parser.add_argument("--runtime-directory")
    parser.add_argument("--umask", default="0022")
    parser.add_argument("--no-new-privileges", action="store_true")
    parser.add_argument("--capabilities")
    parser.add_argument("--memory", type=int)
    parser.add_argument("--hold-stop")
    parser.add_argument("argv", nargs="+")
    options = parser.parse_args(arguments)
    env = environment(options.user, options.env_file, options.setenv)
    if options.runtime_directory:
        make_runtime_directory(f"/run/{options.runtime_directory}", options.user, options.group)
    raise_file_limit()
    if options.memory is not None:
        limit_memory(options.memory)
    os.umask(int(options.umask, 8))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if options.capabilities is not None:
        keep_capabilities(options.capabilities)
    if options.no_new_privileges:
        no_new_privileges()
    become(options.user, options.group)
    os.chdir(options.directory)
    sys.stdout.flush()
    if options.hold_stop is not None:
        sys.exit(hold(options.argv, json.loads(options.hold_stop), env))
    os.execvpe(options.argv[0], options.argv, env)


def raise_file_limit(wanted: int = 65536) -> None:
    """Raise the open-file limit to systemd's LimitNOFILE=, or to this machine's maximum."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limit_memory(mebibytes: int) -> None:
    """Limit the data of each process of the service: getrlimit(2), RLIMIT_DATA. The machine may have no group of processes that
    counts memory."""
    resource.setrlimit(resource.RLIMIT_DATA, (mebibytes << 20, mebibytes << 20))


def make_runtime_directory(path: str, user: str, group: str | None) -> None:
    """A folder of the service's user. Files of a former user of the service change hands too, as with systemd."""
    entry = pwd.getpwnam(user)
    gid = grp.getgrnam(group).gr_gid if group else entry.pw_gid
    os.makedirs(path, mode=0o755, exist_ok=True)
    if os.lstat(path).st_uid != entry.pw_uid:
        for _, folders, files, folder in os.fwalk(path):
            for name in (*folders, *files):
                with contextlib.suppress(FileNotFoundError):
                    os.chown(name, entry.pw_uid, gid, dir_fd=folder, follow_symlinks=False)
    os.chown(path, entry.pw_uid, gid, follow_symlinks=False)


if __name__ == "__main__":
    main(sys.argv[1:])
