# shellcheck shell=sh
# shellcheck disable=SC2154  # install.sh, which reads this file, sets the variables
# Whether the folders that the user named can be used: for the installer's environment, and for temporary files.

roots() { # folder, `sticky`: only root can change what is in it, or put another in its place. It may be missing. With `sticky`,
    # the folders above it may be for everybody, such as /tmp: there, nobody else replaces what root made, while it is there.
    at=$1
    while :; do
        if facts=$(stat -c '%u 0%a' -- "$at" 2>/dev/null); then
            mode=${facts#* }
            [ "${facts% *}" -eq 0 ] || return 1
            if [ $((mode & 022)) -ne 0 ]; then
                [ "${2:-}" = sticky ] && [ "$at" != "$1" ] && [ $((mode & 01000)) -ne 0 ] || return 1
            fi
        fi
        [ "$at" != / ] || return 0
        at=$(dirname -- "$at")
    done
}
# Root runs files from it: apt runs scripts of packages there. A name inside, because a folder for everybody is good if it is sticky.
[ -z "${TMPDIR:-}" ] || { [ -d "$TMPDIR" ] && roots "$(readlink -m -- "$TMPDIR")/new" sticky; } || unset TMPDIR
# An uninstall may need the environment in another place, which needs no network.
if [ "$VERB" = uninstall ] && [ -z "${NQR_CACHE_DIR:-}" ] && [ ! -e "$HOME_CACHE/bootstrap.json" ] && [ -r "$HOME_CACHE/elsewhere" ]; then
    while read -r _ folder; do # after a reboot, a folder in /tmp can be another user's
        if [ -e "$folder/bootstrap.json" ] && [ "$(readlink -m -- "$folder")" = "$folder" ] && roots "$folder"; then CACHE=$folder; fi
    done <"$HOME_CACHE/elsewhere"
fi
if [ "$CACHE" != "$HOME_CACHE" ]; then
    CACHE=$(readlink -m -- "$CACHE")
    usable=yes
    later=''
    [ "$VERB" != verify-clean ] || later=sticky # it removes its folder at the end
    roots "$CACHE" $later || usable=no # root runs programs from it, and an uninstall removes it at any later time
    case $CACHE in
        "$HOME_CACHE"/* | *[!A-Za-z0-9./_+:@,=\ -]*) usable=no ;;
    esac
    # An uninstall removes its whole content, so it may hold nothing else.
    if [ ! -e "$CACHE/bootstrap.json" ] && [ ! -e "$CACHE/bootstrap.log" ] && [ -n "$(ls -A -- "$CACHE" 2>/dev/null)" ]; then
        usable=no
    fi
    [ $usable = yes ] || fail NQR-DEP-905 2 "NQR_CACHE_DIR names $CACHE, which cannot be the installer's own folder." \
        "Name a new or empty folder that only root can change, outside $HOME_CACHE and outside folders for everybody such as /tmp, in plain ASCII; or unset NQR_CACHE_DIR."
fi
