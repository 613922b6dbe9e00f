#!/bin/sh
# Written by nqr. Puts back the network of this host as it was before nqr changed it, unless nqr proved the new one in time.
# It needs neither nqr nor Python nor a name server. To put the network back now, as root: sh restore fire
# shellcheck disable=SC2317
set -u
umask 077
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
cd / || exit 1

here=/var/lib/nqrust-microvm/network-guard
link=eth0
bridge=fcbr0
device=eth0
budget=14
patience=5

files() {
    gone /etc/systemd/network/fcbr0.network
    back /var/lib/nqrust-microvm/network-guard/before/0 /etc/systemd/network/10-eth0.network /etc/systemd/network/.10-eth0.network.nqr-old 640 0:0
    rmdir /etc/new/sub 2>/dev/null || :
    rmdir /etc/new 2>/dev/null || :
}

early_commands() {
    limited netplan generate
}

commands() {
    limited networkctl reload
}

links() {
    [ "$(master)" != "$bridge" ] || try ip link set dev "$link" nomaster
    [ ! -e "/sys/class/net/$bridge/bridge" ] || try ip link delete dev "$bridge"
    [ "$(of mtu)" = 1500 ] || try ip link set dev "$device" mtu 1500
    [ "$(of address)" = 02:00:00:00:00:01 ] || try ip link set dev "$device" address 02:00:00:00:00:01
    try ip link set dev "$link" up
    try ip link set dev "$device" up
}

check() {
    [ "$(master)" != "$bridge" ] || return 1
    has_address 10.0.0.2/24 || return 1
    has_address 2001:db8::2/64 || return 1
    has_route -4 main default 10.0.0.1 || return 1
    has_route -6 main default fe80::1 || return 1
    return 0
}

by_hand() {
    has_address 10.0.0.2/24 || try ip -4 address replace 10.0.0.2/24 broadcast 10.0.0.255 dev "$device"
    has_address 2001:db8::2/64 || try ip -6 address replace 2001:db8::2/64 dev "$device"
    try ip -4 route replace 192.0.2.0/24 dev "$device" table main scope link
    try ip -4 route replace default via 10.0.0.1 dev "$device" table main metric 100 src 10.0.0.2
    try ip -6 route replace default via fe80::1 dev "$device" table main metric 1024
    ip -4 rule add priority 100 from 10.0.0.2 table 77 2>/dev/null || :
}

tidy() {
    rm -f /etc/systemd/network/.10-eth0.network.nqr-old
    rm -rf "$here/before"
    tidy up
}

failed=0
say() { printf 'nqr guard: %s\n' "$*" 2>/dev/null || :; }
try() {
    "$@" && return 0
    say "failed: $*"
    failed=1
    return 0
}
uptime() { cut -d . -f 1 /proc/uptime; }
limited() {
    limit=$((${began:=$(uptime)} + budget - $(uptime)))
    [ "$limit" -ge 2 ] || limit=2
    if command -v timeout >/dev/null 2>&1; then timeout -k 1 "$limit" "$@"; else "$@"; fi ||
        say "failed, so the addresses are checked: $*"
}
same() { [ "$(sha256sum <"$1" 2>/dev/null)" = "$(sha256sum <"$2" 2>/dev/null)" ]; }
kept() { sync "$@" 2>/dev/null || sync; }
master() {
    [ -e "/sys/class/net/$link/master" ] || return 0
    found=$(readlink "/sys/class/net/$link/master")
    printf '%s\n' "${found##*/}"
}
of() { cat "/sys/class/net/$device/$1" 2>/dev/null; }
advertisements() {
    setting=/proc/sys/net/ipv6/conf/$device/accept_ra
    [ ! -e "$setting" ] || printf '%s\n' "$1" 2>/dev/null >"$setting" || :
}
has_address() {
    case "$(ip -o address show dev "$device" 2>/dev/null)" in *" $1 "*) return 0 ;; esac
    return 1
}
has_route() {
    [ -n "$(ip "$1" route show table "$2" to exact "$3" via "$4" dev "$device" 2>/dev/null)" ]
}

gone() {
    [ -e "$1" ] || [ -L "$1" ] || return 0
    try rm -f "$1"
    kept "${1%/*}/"
}
# back SAVED PATH SPARE MODE OWNER. The spare is the old file itself under a second name, so its rename needs no space and keeps
# all that belongs to the file. Without it, a copy of the saved one replaces the file.
back() {
    if [ -f "$3" ] && same "$3" "$1"; then
        # mv refuses two names of one file. They are that until nqr writes the new file.
        mv -f "$3" "$2" 2>/dev/null || same "$2" "$1" || try mv -f "$3" "$2"
    elif [ ! -f "$1" ]; then
        say "failed: the saved copy of $2 is gone"
        failed=1
        return 0
    elif [ -L "$2" ] || [ ! -f "$2" ] || ! same "$2" "$1"; then
        rm -f "$3"
        if ! { cp -a "$1" "$3" && kept "$3" && mv -f "$3" "$2"; }; then
            rm -f "$3"
            say "failed: $2 could not be written"
            failed=1
        fi
    fi
    # rename(2) does nothing if both names are one file already, and leaves the spare.
    if [ -f "$3" ] && same "$2" "$1"; then rm -f "$3"; fi
    try chown "$5" "$2"
    try chmod "$4" "$2"
    kept "$2" "${2%/*}/"
}

# rename(2) succeeds for one of several. Returns 1 if nqr was first.
decided() {
    if mv "$here/armed" "$here/fired" 2>/dev/null; then
        kept "$here/"
        say "the old network of $link comes back"
    fi
    [ -e "$here/fired" ]
}
alone() {
    # The lock is on this file, so that a full disk cannot prevent it.
    exec 9<"$here/restore"
    if command -v flock >/dev/null 2>&1; then flock "$@" 9; fi
}
wait_for_check() {
    tries=$1
    until check; do
        [ "$tries" -gt 0 ] || return 1
        tries=$((tries - 1))
        sleep 1 9<&-
    done
}
finish() {
    [ "$failed" -eq 0 ] || { say 'not complete; it is tried again'; return 1; }
    mv -f "$here/fired" "$here/restored" || return 1
    kept "$here/"
    tidy
    say "the old network of $link is back"
}
fire() {
    alone
    if ! decided; then
        if [ -e "$here/armed" ]; then
            say 'failed: the decision could not be written'
            return 1
        fi
        # A run of nqr that was killed before the guard was armed leaves the saved files. So does one, or a script, at its end.
        if [ -d "$here/before" ]; then tidy; fi
        return 0
    fi
    failed=0
    files
    incomplete=$failed
    links
    began=$(uptime)
    commands 9<&-
    links asked
    if ! wait_for_check "$patience"; then
        say "ip(8) sets the addresses of $device"
        by_hand
        wait_for_check 2 || incomplete=1
    fi
    # A link that refused its MAC, for example, is no reason to try again: the check decides.
    failed=$incomplete
    finish
}
early() {
    # Network managers wait for this unit. It must not wait for a script that restarts one.
    alone -n || return 0
    decided || return 0
    files
    early_commands 9<&-
    return "$failed"
}
late() {
    alone
    if ! decided; then
        exec 9<&-
        fire
        return
    fi
    failed=0
    files
    if wait_for_check 10; then finish; else exec 9<&-; fire; fi
}
until_done() {
    until fire; do sleep 5 9<&-; done
}
started() { cut -d ' ' -f 22 "/proc/$1/stat" 2>/dev/null; }
watched() {
    [ -f "$here/watcher" ] || return 1
    read -r pid since <"$here/watcher" || return 1
    [ "$(started "$pid")" = "$since" ]
}
watch() {
    trap '' HUP
    if [ "$1" -gt 0 ]; then
        printf '%s %s\n' "$$" "$(started "$$")" >"$here/watcher.new" && mv -f "$here/watcher.new" "$here/watcher"
        sleep "$1" &
        child=$!
        trap 'kill "$child"; exit 0' TERM INT
        wait "$child"
        trap '' TERM INT
    fi
    until_done
}

case ${1:-} in
    fire) fire ;;
    early) early ;;
    late) late ;;
    watch) watch "${2:-0}" ;;
    start)
        watched && exit 0
        early
        until_done
        ;;
    *) echo "usage: $0 fire | early | late | watch SECONDS | start" >&2; exit 2 ;;
esac
