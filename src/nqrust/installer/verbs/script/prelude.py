"""The functions that an undo script calls: the undo verbs once more, in POSIX sh with the tools of any Linux host."""

from __future__ import annotations

from nqrust.installer.verbs.packages.shell import FUNCTIONS

_BASE = r"""#!/bin/sh
# Takes back what nqr installed on this host, without nqr and without Python. Run it as root; it can be repeated.
# shellcheck disable=SC2317  # not every host needs every function
set -u
umask 077
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
if [ "$(id -u)" -ne 0 ]; then
    echo 'Only root can do this; nothing was changed.' >&2
    exit 2
fi
cd / || exit 1
failed=0
missed='' # set when something failed that needs a program which a package may have brought

kept() { printf 'Left on purpose: %s.\n' "$*"; }
try() {
    "$@" && return
    failed=$((failed + 1))
    printf 'Could not be undone: %s\n' "$*" >&2
    return 1
}
there() { [ -e "$1" ] || [ -L "$1" ]; }
sum() { sha256sum <"$1" | cut -d ' ' -f 1; }
has() { command -v "$1" >/dev/null 2>&1; }
with_systemd() { [ -d /run/systemd/system ] && has systemctl; }

aside() { # path
    to=$1.nqr-kept
    n=1
    while there "$to"; do
        n=$((n + 1))
        to=$1.nqr-kept.$n
    done
    mv -- "$1" "$to" && kept "$1 was changed since; your version is $to"
}
is_ours() { # path, sha256 or nothing for any content
    [ -f "$1" ] && [ ! -L "$1" ] && { [ -z "$2" ] || [ "$(sum "$1")" = "$2" ]; }
}
clear_leftover() { rm -f -- "$(dirname -- "$1")/.$(basename -- "$1").nqr-new"; } # of a write that was cut off
remove_file() { # path, ours
    clear_leftover "$1"
    there "$1" || return 0
    if is_ours "$1" "$2"; then try rm -f -- "$1"; else try aside "$1"; fi
}
restore_file() { # path, ours, prior sha256, mode, owner, group; the content as base64 on standard input
    clear_leftover "$1"
    if [ -f "$1" ] && [ ! -L "$1" ] && [ "$(sum "$1")" = "$3" ]; then
        cat >/dev/null
        set_mode "$1" "$4" "$5" "$6"
        return
    fi
    if there "$1" && ! is_ours "$1" "$2"; then try aside "$1"; fi
    if [ ! -d "$(dirname -- "$1")" ]; then
        cat >/dev/null
        kept "the folder of $1 is gone, so it was not put back"
        return
    fi
    if base64 -d >"$1.nqr-new" && give "$1.nqr-new" "$5" "$6" && chmod -- "$4" "$1.nqr-new"; then
        try mv -f -- "$1.nqr-new" "$1"
    else
        try false "$1"
    fi
}
set_attribute() { # path, name, value in setfattr's form
    if has setfattr; then try setfattr -n "$2" -v "$3" -- "$1"; else kept "$1 without its attribute $2"; fi
}
known() { case $1 in *[!0-9]*) grep -q "^$1:" "$2" ;; esac; } # name or number, file of accounts
give() { # path, owner, group; one that is gone by now is left out
    chown -h -- "$2:$3" "$1" 2>/dev/null && return
    if known "$2" /etc/passwd && known "$3" /etc/group; then return 1; fi
    kept "${1%.nqr-new} keeps its owner: $2:$3 is gone"
}
set_mode() { # path, mode, owner, group
    there "$1" || return 0
    try give "$1" "$3" "$4"
    [ -L "$1" ] || try chmod -- "$2" "$1"
}
restore_link() { # path, ours, prior or nothing
    clear_leftover "$1"
    if there "$1"; then
        if [ ! -L "$1" ]; then
            kept "$1 was changed since"
            return
        fi
        now=$(readlink -- "$1")
        if [ "$now" != "$2" ] && [ "$now" != "$3" ]; then
            kept "$1 was changed since"
            return
        fi
        if [ -z "$3" ]; then
            try rm -f -- "$1"
        elif [ "$now" != "$3" ]; then
            try ln -sfn -- "$3" "$1"
        fi
    elif [ -n "$3" ] && [ -d "$(dirname -- "$1")" ]; then
        try ln -s -- "$3" "$1"
    fi
}
put_link() { # path, ours, prior target: a file of ours stands where a link was
    if [ -L "$1" ] && [ "$(readlink -- "$1")" = "$3" ]; then return; fi
    remove_file "$1" "$2"
    there "$1" || try ln -s -- "$3" "$1"
}
put_directory() { # path, mode, owner, group
    if [ -d "$1" ] || [ ! -d "$(dirname -- "$1")" ]; then return; fi
    try mkdir -- "$1" && set_mode "$@"
}
drop_copy() { # path, sha256, the file that it was laid beside, its sha256
    if is_ours "$1" "$2" && is_ours "$3" "$4"; then try rm -f -- "$1"; fi
}
remove_directory() { # path
    [ -d "$1" ] || return 0
    rmdir -- "$1" 2>/dev/null || kept "$1 holds what is not ours"
}
remove_tree() { # path
    [ -d "$1" ] && [ ! -L "$1" ] || return 0
    if awk -v top="$1" '$5 == top || index($5, top "/") == 1 { found = 1 } END { exit !found }' /proc/self/mountinfo; then
        try false "$1: something is mounted there"
    else
        try rm -rf -- "$1"
    fi
}
remove_contents() { # path
    for below in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        if [ -d "$below" ] && [ ! -L "$below" ]; then
            remove_tree "$below"
        elif there "$below"; then
            try rm -f -- "$below"
        fi
    done
}
remove_block() { replace_block "$1" "$2" "$3" ''; }  # path, marker, whether the file was made by us
restore_block() { replace_block "$1" "$2" 0 "$3"; } # path, marker, its earlier text
replace_block() { # path, marker, whether the file goes when it is empty, new text
    clear_leftover "$1"
    if [ -L "$1" ] || { [ -e "$1" ] && [ ! -f "$1" ]; }; then
        kept "$1 is no longer a file"
        return
    fi
    [ -f "$1" ] && grep -qF "# BEGIN $2" -- "$1" || return 0
    if ! grep -qF "# END $2" -- "$1"; then
        kept "our block in $1 has lost its end"
        return
    fi
    rest=$(text=$4 awk -v b="# BEGIN $2" -v e="# END $2" '
        { bare = $0; gsub(/^[ \t]+|[ \t]+$/, "", bare) }
        bare == b && !done { inside = 1; printf "%s", ENVIRON["text"] }
        !inside { print }
        inside && bare == e { inside = 0; done = 1 }' "$1" && echo x)
    rest=${rest%x}
    if [ -n "$(tail -c 1 -- "$1")" ]; then rest=${rest%?}; fi # awk(1) ends every line
    if [ "$3" = 1 ] && [ -z "$(printf '%s' "$rest" | tr -d ' \t\n')" ]; then
        try rm -f -- "$1"
    else
        new=$(dirname -- "$1")/.$(basename -- "$1").nqr-new
        { cp -a -- "$1" "$new" && printf '%s' "$rest" >"$new" && mv -f -- "$new" "$1"; } || try false "$1"
    fi
}
remove_user() { # name; it leaves a primary group of the same name first, which userdel(8) would take along
    grep -q "^$1:" /etc/passwd || return 0
    if grep -q "^$1:[^:]*:$(id -g -- "$1"):" /etc/group; then
        for other in nogroup nobody root; do ! grep -q "^$other:" /etc/group || break; done
        try usermod --gid "$other" --home /nonexistent "$1" || return
    fi
    try userdel "$1"
}
remove_group() {
    grep -q "^$1:" /etc/group || return 0
    groupdel "$1" 2>/dev/null || kept "group $1 is the primary group of a user that is not ours"
}
remove_member() { # group, user
    if grep "^$1:" /etc/group | cut -d : -f 4 | tr , '\n' | grep -qx -- "$2"; then try gpasswd --delete "$2" "$1" >/dev/null; fi
}
remove_net_link() {
    [ -e "/sys/class/net/$1" ] || return 0
    if has ip; then try ip link delete "$1" || missed=1; else kept "$1 goes at the next boot: the program ip is gone"; fi
}
restore_sysctl() { # file, prior, ours
    [ -e "$1" ] || return 0
    now=$(cat "$1")
    [ "$now" = "$2" ] && return
    if [ "$now" = "$3" ]; then printf '%s\n' "$2" >"$1" || try false "$1"; else kept "$1 is $now, which is neither what we set nor what it was"; fi
}
remove_module() { if [ -e "/sys/module/$1" ]; then modprobe --remove "$1" 2>/dev/null || kept "module $1 is in use; it goes at the next boot"; fi; }
remove_rule() { # program, table, chain, specification
    program=$1 table=$2
    shift 2
    has "$program" || return 0
    while "$program" -w -t "$table" -C "$@" 2>/dev/null; do try "$program" -w -t "$table" -D "$@" || { missed=1; return; }; done
}
remove_chain() { # program, table, chain
    has "$1" && "$1" -w -t "$2" -S "$3" >/dev/null 2>&1 || return 0
    try "$1" -w -t "$2" -F "$3" || missed=1
    try "$1" -w -t "$2" -X "$3" || missed=1
}
stop_unit() { # unit, whether it stays enabled, whether it stays active
    with_systemd || return 0
    [ "$3" = 1 ] || systemctl stop "$1" 2>/dev/null
    [ "$2" = 1 ] || systemctl disable --quiet "$1" 2>/dev/null
    systemctl reset-failed "$1" 2>/dev/null
}
start_unit() { # unit, whether it was enabled
    with_systemd || return 0
    [ "$2" = 1 ] && systemctl enable --quiet "$1" 2>/dev/null
    systemctl restart "$1" || kept "$1 ran before and does not start now"
}
supervisor_program() { # verb, program, command line of supervisorctl, which ends with its configuration
    verb=$1 program=$2 code=127
    shift 2
    if [ -x "$1" ]; then
        "$@" "$verb" "$program" >/dev/null 2>&1
        code=$?
    fi
    [ "$code" -ge 126 ] && [ "$verb" = stop ] || return 0
    while [ $# -gt 1 ]; do shift; done # its Python is gone: all programs end together
    end_supervisord "$1"
}
same_machine() { # process: containers on this host are other machines
    [ "$(readlink "/proc/$1/ns/pid" 2>/dev/null)" = "$(readlink /proc/self/ns/pid)" ]
}
holding() { # file of /proc/PID, beginning of one of its entries
    for folder in /proc/[0-9]*; do
        pid=${folder#/proc/}
        [ "$pid" = $$ ] && continue
        same_machine "$pid" && tr '\0' '\n' <"$folder/$1" 2>/dev/null | grep -q -- "$2" && printf '%s\n' "$pid"
    done 2>/dev/null
}
end_all() { # seconds, file of /proc/PID, beginning of one of its entries
    for pid in $(holding "$2" "$3"); do kill "$pid" 2>/dev/null; done
    n=0
    while [ -n "$(holding "$2" "$3")" ] && [ "$n" -lt "$1" ]; do
        n=$((n + 1))
        sleep 1
    done
    for pid in $(holding "$2" "$3"); do kill -9 "$pid" 2>/dev/null; done
}
end_vms() { # beginning of their scopes' names, mark of their links, variable with the scope's name
    end_all 10 environ "^$3$1"
    for alias in /sys/class/net/*/ifalias; do
        case $(cat "$alias" 2>/dev/null) in
            "$2"*) remove_net_link "$(basename "$(dirname "$alias")")" ;;
        esac
    done
}
end_supervisord() { end_all 60 cmdline "^$1\$"; } # its configuration
sql() { # user, statement, socket folder, port, program of the server, its configuration, its data folder, why it may stay
    if ! grep -q "^$1:" /etc/passwd || [ ! -e "$7/PG_VERSION" ]; then return 0; fi # the cluster is gone
    if has psql && psql_as "$1" "$3" "$4" 'SELECT 1' >/dev/null 2>&1; then
        said=$(psql_as "$1" "$3" "$4" "$2" 2>&1) && return
    elif [ -x "$5" ]; then
        said=$(without_server "$@" 2>&1) && return
    else
        kept "the programs of PostgreSQL are gone; not done in $7: $2"
        return
    fi
    case $said in
        *2BP01*) # dependent_objects_still_exist: the next run would meet them again
            if [ -n "$8" ]; then
                kept "$8"
                return
            fi
            ;;
    esac
    printf '%s\n' "$said" >&2
    try false "$2" || missed=1
}
psql_as() { # user, socket folder, port, statement
    runuser -u "$1" -- psql -X -A -t -q -w -v ON_ERROR_STOP=1 -v VERBOSITY=verbose -h "$2" -p "$3" -d postgres -c "$4"
}
without_server() { # as sql, for a cluster that does not run: postgres(1), --single
    printf '%s\n' "$2" | runuser -u "$1" -- "$5" --single -D "$7" ${6:+-c "config_file=$6"} -c exit_on_error=on \
        -c log_destination=stderr -c log_min_messages=fatal -c log_error_verbosity=verbose postgres >/dev/null
}
"""

PRELUDE = _BASE + FUNCTIONS
