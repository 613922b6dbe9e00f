# shellcheck shell=sh
# shellcheck disable=SC2154  # install.sh, which reads this file, sets the variables
# Whether the folders that the user named can be used: for the installer's environment, and for temporary files.

roots() { # folder: only root can change what is in it, or put another in its place. It may be missing
    at=$1
    while :; do
        if facts=$(stat -c '%u 0%a' -- "$at" 2>/dev/null); then
            mode=${facts#* }
            [ "${facts% *}" -eq 0 ] || return 1
            if [ $((mode & 022)) -ne 0 ] && { [ "$at" = "$1" ] || [ $((mode & 01000)) -eq 0 ]; }; then return 1; fi
        fi
        [ "$at" != / ] || return 0
        at=$(dirname -- "$at")
    done
}
# Root runs files from it: apt runs scripts of packages there. A name inside, because a folder for everybody is good if it is sticky.
[ -z "${TMPDIR:-}" ] || { [ -d "$TMPDIR" ] && roots "$(readlink -m -- "$TMPDIR")/new"; } || unset TMPDIR
if [ "$CACHE" != "$HOME_CACHE" ]; then
    CACHE=$(readlink -m -- "$CACHE")
    usable=yes
    roots "$CACHE" || usable=no # root runs programs from it
    case $CACHE in
        "$HOME_CACHE"/* | *[!A-Za-z0-9./_+:@,=\ -]*) usable=no ;;
    esac
    # An uninstall removes its whole content, so it may hold nothing else.
    if [ ! -e "$CACHE/bootstrap.json" ] && [ ! -e "$CACHE/bootstrap.log" ] && [ -n "$(ls -A -- "$CACHE" 2>/dev/null)" ]; then
        usable=no
    fi
    [ $usable = yes ] || fail NQR-DEP-905 2 "NQR_CACHE_DIR names $CACHE, which cannot be the installer's own folder." \
        "Name a new or empty folder that only root can change, outside $HOME_CACHE, in plain ASCII; or unset NQR_CACHE_DIR."
fi
