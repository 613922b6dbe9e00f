"""Whether others have this host forward packets, told from what they leave on it.

Where nqr turned forwarding on, its last rule of FORWARD drops what nobody else accepts (docs/adr/0003). So others that forward
have a rule that accepts or translates forwarded packets, or a setting that turns forwarding on. A list of programs would miss an
administrator's own rules, and count a Docker that forwards nothing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator

from nqrust.contract import names as product
from nqrust.host.facts.reading import names, text
from nqrust.host.port import Host, Kind, command

FORWARDING = "net.ipv4.ip_forward"
OWN_FILE = f"/etc/sysctl.d/90-{product.PRODUCT}.conf"
FILE = "/proc/sys/net/ipv4/ip_forward"

_ON = r"^[ \t]*-?[ \t]*net[./]ipv4[./](ip_forward|conf[./]all[./]forwarding)[ \t]*=[ \t]*1[ \t]*$"
_NETWORKD_ON = r"^[ \t]*(IPForward|IPv4Forwarding|IPMasquerade)[ \t]*=[ \t]*(1|yes|true|on|ipv4|both)[ \t]*$"
_SETTINGS = (
    ("/etc/sysctl.conf", _ON),
    ("/etc/ufw/sysctl.conf", _ON),
    ("/etc/sysctl.d/*.conf", _ON),
    ("/run/sysctl.d/*.conf", _ON),
    ("/usr/local/lib/sysctl.d/*.conf", _ON),
    ("/usr/lib/sysctl.d/*.conf", _ON),
    # Not systemd's own in /usr/lib: each host has them, for containers that it may never have.
    ("/etc/systemd/networkd.conf", _NETWORKD_ON),
    ("/etc/systemd/networkd.conf.d/*.conf", _NETWORKD_ON),
    ("/etc/systemd/network/*.network", _NETWORKD_ON),
    ("/run/systemd/network/*.network", _NETWORKD_ON),
)
"""Files that turn forwarding on at boot: sysctl.d(5), networkd.conf(5), systemd.network(5). Expressions for grep -E, too."""

_LEGACY = "/proc/net/ip_tables_names"
_ANY = tuple(range(256))
_OPENS = re.compile(r"^\t?(table|chain) (\S+) (?:(\S+) )?\{")
_COUNTER = re.compile(r"counter packets \d+ bytes \d+ ?")
_TRANSLATES = re.compile(r" -j (?:MASQUERADE|SNAT|DNAT|NETMAP)(?: |$)")
_PASSES = re.compile(r" -[sdio] .* -j ACCEPT$|^-A \S+ -j ACCEPT$")
_NFT_TRANSLATES = re.compile(r"(?:^| )masquerade(?: |$)|(?:^| )[sd]nat (?:.* )?to ")
_NFT_PASSES = re.compile(r"(?:^| )(?:[io]if(?:name)?|ip [sd]addr) .* accept(?:[ ,]|$)|^accept")


def signs(host: Host) -> tuple[str, ...]:
    """Return settings and rules of others that have this host forward. Never raises HostError for a host that lacks a program."""
    links = [name for name in names(host, "/sys/class/net") if name != "lo" and not _is_ours(host, name)]
    return tuple(dict.fromkeys((*_settings(host), *rules(_listed(host), links))))


def found_on(host: Host, known: Collection[str]) -> str:
    """Return a sign of others who found forwarding on, or an empty string. `known`: signs from when it was off."""
    return next((sign for sign in signs(host) if sign not in known), "")


def stays(sign: str) -> str:
    return f"{FORWARDING} stays 1, because others forward packets ({sign}). `echo 0 >{FILE}` turns it off"


def _is_ours(host: Host, link: str) -> bool:
    return text(host, f"/sys/class/net/{link}/ifalias").strip() == product.PRODUCT


def _settings(host: Host) -> Iterator[str]:
    for pattern, turns_on in _SETTINGS:
        for path in host.glob(pattern):
            stat = host.stat(path)
            if stat is None or stat.kind is not Kind.file or path == OWN_FILE:
                continue
            if re.search(turns_on, text(host, path), re.MULTILINE | re.IGNORECASE):
                yield path


def _listed(host: Host) -> str:
    """Return all rules. A query of the older kernel interface would load its modules on a host that does not use it."""
    asked = [("iptables-save",), ("nft", "list", "ruleset")]
    if text(host, _LEGACY).strip():
        asked.insert(1, ("iptables-legacy-save",))
    return "".join(host.run(command(*argv, ok=_ANY, timeout=30)).stdout for argv in asked if host.which(argv[0]) is not None)


def rules(listing: str, links: Collection[str]) -> list[str]:
    """Return the rules of others that translate packets, or accept forwarded ones. `listing`: of iptables-save(8) and nft(8), one
    after the other. A rule that names a link counts if that is one of `links`."""
    found: list[str] = []
    passing: dict[str, list[str]] = {}
    leads: dict[str, list[str]] = {}
    todo = ["filter FORWARD"]
    table = chain = ""
    for raw in listing.splitlines():
        words = _COUNTER.sub("", raw).split()
        line = " ".join(words)
        if raw.startswith("*"):
            table = raw[1:]
        elif opened := _OPENS.match(raw):
            table, chain = (f"{opened[2]} {opened[3]}", "") if opened[1] == "table" else (table, opened[2])
        elif raw.startswith("-A NQR-"):
            continue
        elif raw.startswith("-A "):
            place = f"{table} {words[1]}"
            leads.setdefault(place, []).extend(f"{table} {to}" for to in _after(words, "-j", "-g"))
            if table == "nat" and _TRANSLATES.search(line) and _there(words, links):
                found.append(line)
            elif table == "filter" and _PASSES.search(line) and _there(words, links):
                passing.setdefault(place, []).append(line)
        elif chain and not chain.startswith("NQR-") and table.startswith(("ip ", "inet ")):
            place = f"{table} {chain}"
            leads.setdefault(place, []).extend(f"{table} {to}" for to in _after(words, "jump", "goto"))
            if line.startswith("type filter hook forward "):
                todo.append(place)
            elif _NFT_TRANSLATES.search(line) and _there(words, links):
                found.append(line)
            # firewalld accepts what a zone sends to itself, whether the host forwards or not.
            elif not table.endswith(" firewalld") and _NFT_PASSES.search(line) and _there(words, links):
                passing.setdefault(place, []).append(line)
    seen = set[str]()
    for place in todo:  # grows meanwhile
        if place not in seen:
            seen.add(place)
            found += passing.get(place, [])
            todo += leads.get(place, [])
    return found


def _after(words: list[str], *wanted: str) -> Iterator[str]:
    return (after.rstrip(",") for word, after in itertools.pairwise(words) if word in wanted)


def _there(words: list[str], links: Collection[str]) -> bool:
    """Return whether each link that a rule names is there. A pattern or a set may stand for one, and a link after “not” for others."""
    named = (
        words[at + 1].strip('"')
        for at, word in enumerate(words[:-1])
        if word in ("-i", "-o", "iif", "oif", "iifname", "oifname") and words[at - 1] != "!"
    )
    return all(name in links or re.search(r"[+*{@$!]|^vmap$", name) for name in named)


def _shell_settings() -> str:
    """Return lines of sh that list the settings of others that turn forwarding on."""
    lines = []
    for turns_on in dict.fromkeys(one for _, one in _SETTINGS):
        files = " ".join(pattern for pattern, one in _SETTINGS if one == turns_on)
        expression = turns_on.replace(r"[ \t]", "[[:blank:]]")
        lines += [
            f"    for file in {files}; do",
            f'        if [ ! -f "$file" ] || [ -L "$file" ] || [ "$file" = {OWN_FILE} ]; then continue; fi',
            f"        ! grep -Eqi '{expression}' \"$file\" || printf '%s\\n' \"$file\"",
            "    done",
        ]
    return "\n".join(lines)


_AWK = r"""
        function there(   at, name) {
            for (at = 1; at < NF; at++) {
                if ($at !~ /^(-[io]|[io]if|[io]ifname)$/ || $(at - 1) == "!") continue
                name = $(at + 1)
                gsub(/"/, "", name)
                if (!(name in link) && name !~ /[+*{@$!]|^vmap$/) return 0
            }
            return 1
        }
        function lead(words,   at, to) {
            for (at = 1; at < NF; at++) {
                if ($at !~ words) continue
                to = $(at + 1)
                sub(/,$/, "", to)
                leads[place] = leads[place] "\n" table " " to
            }
        }
        function pass() { if (there()) passing[place] = passing[place] $0 "\n" }
        BEGIN {
            count = split(links, one, " ")
            for (at = 1; at <= count; at++) link[one[at]] = 1
            todo[last = 1] = "filter FORWARD"
        }
        /^[*]/ { table = substr($1, 2); next }
        /^table [^ ]+ [^ ]+ \{/ { table = $2 " " $3; chain = ""; next }
        /^\tchain [^ ]+ \{/ { chain = $2; next }
        /^-A NQR-/ { next }
        /^-A / {
            $1 = $1
            place = table " " $2
            lead("^-[jg]$")
            if (table == "nat" && / -j (MASQUERADE|SNAT|DNAT|NETMAP)( |$)/) { if (there()) print }
            else if (table == "filter" && / -[sdio] .* -j ACCEPT$|^-A [^ ]+ -j ACCEPT$/) pass()
            next
        }
        chain == "" || chain ~ /^NQR-/ || table !~ /^(ip|inet) / { next }
        {
            sub(/counter packets [0-9]+ bytes [0-9]+ ?/, "")
            $1 = $1
            place = table " " chain
            lead("^(jump|goto)$")
            if (/^type filter hook forward /) todo[++last] = place
            else if (/(^| )masquerade( |$)/ || /(^| )[sd]nat (.* )?to /) { if (there()) print }
            else if (table !~ / firewalld$/ && /(^| )([io]if(name)?|ip [sd]addr) .* accept([ ,]|$)|^accept/) pass()
        }
        END {
            for (now = 1; now <= last; now++) {
                if (seen[todo[now]]++) continue
                printf "%s", passing[todo[now]]
                count = split(leads[todo[now]], one, "\n")
                for (at = 2; at <= count; at++) todo[++last] = one[at]
            }
        }"""

FUNCTIONS = f"""signs_of_forwarding() {{ # settings and rules of others that have this host forward
{_shell_settings()}
    links=''
    for folder in /sys/class/net/*; do
        if [ "${{folder##*/}}" = lo ] || [ "$(cat "$folder/ifalias" 2>/dev/null)" = {product.PRODUCT} ]; then continue; fi
        links="$links ${{folder##*/}}"
    done
    {{
        iptables-save
        ! grep -q . {_LEGACY} || iptables-legacy-save
        nft list ruleset
    }} 2>/dev/null | awk -v links="$links" '{_AWK}'
}}
forwarding_stays() {{ # file of a parameter, prior, ours, signs from when it was off: a sign of others who found forwarding on
    if [ "$1" != {FILE} ] || [ "$2" != 0 ] || [ "$(cat "$1")" != "$3" ]; then return 0; fi
    shift 3
    signs_of_forwarding | grep -vxF -e "$(printf '%s\\n' "$@")" | head -n 1
}}
"""
