"""Runs inside a test host, with nothing but Python's standard library: prints all an installer could change, as JSON."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import re
import shutil
import stat
import subprocess

TREES = ("/etc", "/opt", "/srv", "/usr/local", "/var/lib", "/root", "/home", "/lib/systemd", "/usr/lib/sysctl.d",
         "/usr/lib/modules-load.d", "/var/spool/cron")  # fmt: skip
# Path patterns that change on their own, each with its reason.
VOLATILE = (
    r"/etc/ld\.so\.cache$",  # rebuilt by ldconfig from the libraries
    r"/etc/\.pwd\.lock$|/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$",  # compared entry by entry below
    r"/etc/(mtab|resolv\.conf|machine-id)$",  # the host's own, made at boot
    r"/var/lib/(apt|dpkg|ucf)(/|$)",  # databases of the package manager; packages are compared below
    r"/var/lib/systemd/(timers|random-seed|catalog|coredump|rfkill|deb-systemd[^/]*)(/|$)",  # systemd's running notes
    r"/var/lib/(private|dbus|logrotate|misc|pam|polkit-1|python)(/|$)",  # notes of the distribution's daemons
    r"/var/lib/sgml-base/supercatalog\.old$",  # backup that update-catalog(8) keeps
    r"/var/lib/postgresql/\d+/[^/]+/",  # a running server writes; its roles and databases are compared below
    r"/root/\.(bash_history|cache)(/|$)",
    r"/__pycache__(/|$)",
)
VOLATILE_RE = re.compile("|".join(VOLATILE))


def output(*argv: str) -> str:
    if not shutil.which(argv[0]):
        return ""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    return done.stdout


def entry(path: str) -> str:
    status = os.lstat(path)
    text = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"
    if stat.S_ISLNK(status.st_mode):
        return f"{text} -> {os.readlink(path)}"
    if stat.S_ISREG(status.st_mode):
        digest = hashlib.sha256()
        with open(path, "rb") as handle:
            for piece in iter(lambda: handle.read(1 << 20), b""):
                digest.update(piece)
        text += f" {status.st_size} {digest.hexdigest()[:16]}"
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        text += f" {name}={os.getxattr(path, name, follow_symlinks=False).hex()}"
    return text


def files() -> dict[str, str]:
    found: dict[str, str] = {}
    for top in TREES:
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if not VOLATILE_RE.search(f"{folder}/{name}")]
            for name in [*folders, *names]:
                path = f"{folder}/{name}"
                if not VOLATILE_RE.search(path):
                    try:
                        found[path] = entry(path)
                    except FileNotFoundError:
                        pass
    return found


def shadow() -> dict[str, str]:
    try:
        with open("/etc/shadow") as handle:
            return {line.split(":")[0]: line.split(":")[1][:1] for line in handle if ":" in line}
    except OSError:
        return {}


def units() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in output("systemctl", "list-unit-files", "--no-legend", "--no-pager").splitlines():
        name, state = line.split()[:2]
        found[f"file {name}"] = state
    for line in output(
        "systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager", "--type=service,socket,timer"
    ).splitlines():
        name, _load, active, sub = line.split()[:4]
        # Services that run once or on demand are as good inactive as gone.
        if active in ("active", "failed") and sub != "exited":
            found[f"active {name}"] = f"{active} {sub}"
    return found


def sysctls() -> dict[str, str]:
    found: dict[str, str] = {}
    for top in (
        "/proc/sys/net/ipv4",
        "/proc/sys/net/ipv6",
        "/proc/sys/net/bridge",
        "/proc/sys/net/netfilter",
        "/proc/sys/net/core",
    ):
        for folder, _folders, names in os.walk(top):
            for name in names:
                path = f"{folder}/{name}"
                if re.search(
                    r"(nr_|_count$|_stat|stable_secret|flush|random|dst_entropy|tcp_fastopen_key|fib_sync_mem|/neigh/)", path
                ):
                    continue
                try:
                    with open(path) as handle:
                        found[path] = handle.read().strip()
                except OSError:
                    pass
    return found


def rules() -> dict[str, str]:
    found: dict[str, str] = {}
    for program in ("iptables-save", "ip6iptables-save", "ip6tables-save", "iptables-legacy-save"):
        number = 0
        for line in output(program).splitlines():
            if line.startswith("-A"):
                number += 1
                found[f"{program} {number}"] = line
    ruleset = re.sub(r"packets \d+ bytes \d+", "", output("nft", "--stateless", "list", "ruleset"))
    # An empty base chain that accepts everything is made by iptables-nft when it is only asked about that chain.
    ruleset = re.sub(r"\n\tchain \w+ \{\n\t\ttype [^\n]*policy accept;\n\t\}\n", "", ruleset)
    tables = re.split(r"(?m)^(?=table )", ruleset)
    for table in tables:
        name, _, body = table.partition("{")
        # Programs that only look leave empty tables behind.
        if re.search(r"(?m)^\s+(?!chain|type|}|set|map).*\S", body):
            found[f"nft {name.strip()}"] = hashlib.sha256(body.encode()).hexdigest()[:16]
    return found


def links() -> dict[str, str]:
    found: dict[str, str] = {}
    for one in json.loads(output("ip", "-json", "-details", "address") or "[]"):
        kind = one.get("linkinfo", {}).get("info_kind", "")
        addresses = sorted(f"{a['local']}/{a['prefixlen']}" for a in one["addr_info"] if a.get("scope") != "link")
        found[one["ifname"]] = f"{kind} {one.get('master', '')} {' '.join(addresses)}"
    return found


def routes() -> dict[str, str]:
    return {line.strip(): "" for line in output("ip", "route").splitlines() if "linkdown" not in line}


def listening() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in output("ss", "-H", "-lntu").splitlines():
        words = line.split()
        found[f"{words[0]} {words[4]}"] = ""
    return found


def processes() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline") as handle:
                    command = handle.read().replace("\0", " ").strip()
                with open(f"/proc/{name}/comm") as handle:
                    comm = handle.read().strip()
            except OSError:
                continue
            if command and int(name) != os.getpid() and comm not in ("nsenter", "(sd-pam)") and "fingerprint" not in command:
                found[re.sub(r"\d+", "N", command)[:200]] = ""
    return found


def packages() -> dict[str, str]:
    automatic = set(output("apt-mark", "showauto").split())
    found: dict[str, str] = {}
    for line in output("dpkg-query", "-W", "-f=${Package} ${Version} ${db:Status-Abbrev}\n").splitlines():
        name, version, status = line.split()[:3]
        found[name] = f"{version} {status} {'auto' if name in automatic else 'manual'}"
    return found


def postgresql() -> dict[str, str]:
    if not shutil.which("psql") or not os.path.isdir("/var/lib/postgresql"):
        return {}
    query = "select 'role '||rolname from pg_roles union select 'database '||datname from pg_database"
    return dict.fromkeys(output("runuser", "-u", "postgres", "--", "psql", "-Atc", query).splitlines(), "")


def mounts() -> dict[str, str]:
    with open("/proc/self/mounts") as handle:
        return {
            line.split()[1]: line.split()[2]
            for line in handle
            if not line.split()[1].startswith(("/proc", "/sys", "/dev", "/run"))
        }


def modules() -> dict[str, str]:
    if not os.path.exists("/proc/modules"):
        return {}
    with open("/proc/modules") as handle:
        return {line.split()[0]: "" for line in handle}


passwords = shadow()
print(json.dumps({
    "files": files(),
    "users": {u.pw_name: f"{u.pw_uid}:{u.pw_gid} {u.pw_gecos} {u.pw_dir} {u.pw_shell} {passwords.get(u.pw_name, '')}" for u in pwd.getpwall()},
    "groups": {g.gr_name: f"{g.gr_gid} {','.join(sorted(g.gr_mem))}" for g in grp.getgrall()},
    "packages": packages(),
    "units": units() if os.path.isdir("/run/systemd/system") else {},
    "links": links(), "routes": routes(), "rules": rules(), "sysctls": sysctls(),
    "modules": modules(),
    "listening": listening(), "processes": processes(), "mounts": mounts(), "postgresql": postgresql(),
    "devices": {path: entry(path) for path in ("/dev/kvm", "/dev/net/tun") if os.path.exists(path)},
}))  # fmt: skip
