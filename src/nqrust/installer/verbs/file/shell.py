"""Shell form of the records for files, folders and links: an undo script's functions and calls."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.shell_words import call

_WIDTH = 76  # base64 characters a line

FUNCTIONS = r"""aside() { # path
    to=$1.nqr-kept
    n=1
    while there "$to"; do
        n=$((n + 1))
        to=$1.nqr-kept.$n
    done
    (enter "${1%/*}" && mv -T -- "./${1##*/}" "./${to##*/}") && kept "$1 was changed since; your version is $to"
}
is_ours() { # path, sha256 or nothing for any content
    [ -f "$1" ] && [ ! -L "$1" ] && { [ -z "$2" ] || [ "$(sum "$1")" = "$2" ]; }
}
clear_leftover() ( enter "${1%/*}" && rm -f -- "./.${1##*/}.nqr-new" ) # of a write that was cut off
remove_file() { # path, ours
    clear_leftover "$1"
    there "$1" || return 0
    if is_ours "$1" "$2"; then try delete "$1"; else try aside "$1"; fi
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
    try put_file "$1" "$4" "$5" "$6"
}
put_file() ( # path, mode, owner, group; the content as base64 on standard input
    enter "${1%/*}" || exit 1
    name=${1##*/} own=''
    new=./$name.nqr-new
    if [ -z "$alone" ] || ! roots "$name"; then # another user could put a link at that name
        own=$(mktemp -d) || exit 1
        new=$own/$name
    fi
    base64 -d >"$new" && give "$new" "$3" "$4" "$1" && chmod -- "$2" "$new" && mv -fT -- "$new" "./$name"
    code=$?
    [ -z "$own" ] || rm -rf -- "$own"
    exit "$code"
)
set_attribute() { # path, name, value in setfattr's form
    if has setfattr; then try setfattr -h -n "$2" -v "$3" -- "$1"; else kept "$1 without its attribute $2"; fi
}
known() { case $1 in *[!0-9]*) grep -q "^$1:" "$2" ;; esac; } # name or number, file of accounts
give() { # path, owner, group, its name for people; one that is gone by now is left out
    chown -h -- "$2:$3" "$1" 2>/dev/null && return
    if known "$2" /etc/passwd && known "$3" /etc/group; then return 1; fi
    kept "$4 keeps its owner: $2:$3 is gone"
}
set_mode() { # path, mode, owner, group
    if there "$1"; then try change_mode "$@"; fi
}
change_mode() ( # path, mode, owner, group
    enter "${1%/*}" || exit 1
    name=${1##*/}
    if [ -d "./$name" ] && [ ! -L "./$name" ]; then
        step_in "$name" && give . "$3" "$4" "$1" && chmod -- "$2" .
    elif [ -z "$alone" ] || ! roots "$name"; then
        kept "$1 keeps its mode and owner: its folder is another user's"
    else
        give "./$name" "$3" "$4" "$1" && { [ -L "./$name" ] || chmod -- "$2" "./$name"; }
    fi
)
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
            try delete "$1"
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
    if is_ours "$1" "$2" && is_ours "$3" "$4"; then try delete "$1"; fi
}
staying='' # paths, one a line
stays() { # path that this run leaves
    staying="$staying
$1"
}
holds_what_stays() { # folder
    inside=$(printf '%s\n' "$staying" | while IFS= read -r one; do
        case $one in "$1"/*) ! there "$one" || echo x ;; esac
    done)
    [ -n "$inside" ] && kept "$1 with what stays in it"
}
remove_directory() { # path
    [ -d "$1" ] || return 0
    ! holds_what_stays "$1" || return 0
    (enter "${1%/*}" && rmdir -- "./${1##*/}") 2>/dev/null || kept "$1 holds what is not ours"
}
restore_mode() { # path, mode, owner, group; PostgreSQL needs those that its data has
    used_cluster "$1" || set_mode "$@"
}
remove_tree() { # path
    [ -d "$1" ] && [ ! -L "$1" ] || return 0
    if holds_what_stays "$1"; then return; fi
    for edit in "$1"/*.nqr-kept*; do
        if there "$edit"; then
            kept "$1 holds your version of what was changed ($edit)"
            return
        fi
    done
    if used_cluster "$1"; then cluster_stays "$1"; else try delete_tree "$1"; fi
}
remove_contents() { # path
    if [ ! -d "$1" ]; then
        ! there "$1" || kept "$1 is no longer a directory"
    elif holds_what_stays "$1"; then
        :
    elif used_cluster "$1"; then
        cluster_stays "$1"
    elif [ ! -L "$1" ] || (enter "$1" 2>/dev/null); then
        try empty "$1"
    elif ! owner=$(owner_of_link "$1") || ! as_user "$owner" find "$1/" -xdev -mindepth 1 -delete; then
        kept "$1 is a link that other users can change, and what is behind it stays"
    fi
}
owner_of_link() ( # path: who alone, besides root, can change it
    enter "${1%/*}" && [ -n "$alone" ] && case $(stat -c '%u %A' .) in '0 '*) false ;; *' d'????-??-?) stat -c %U . ;; *) false ;; esac
)
empty() ( # folder
    enter "$1" || exit 1
    code=0
    for below in ./* ./.[!.]* ./..?*; do
        there "$below" || continue
        wipe "${below#./}" || code=1
    done
    exit "$code"
)
remove_block() { replace_block "$1" "$2" "$3" ''; }  # path, marker, whether the file was made by us
restore_block() { replace_block "$1" "$2" 0 "$3"; } # path, marker, its earlier text
replace_block() { # path, marker, whether the file goes when it is empty, new text
    [ -d "$(dirname -- "$1")" ] || return 0
    if cd -P -- "$(dirname -- "$1")"; then
        replace_here "$1" "./$(basename -- "$1")" "$2" "$3" "$4"
        cd / || exit 1
    else
        try false "$1"
    fi
}
replace_here() { # path, its name in this folder, then as before
    # Whoever writes here can put a link in the place of a name at any time. So root takes names here only if no one else writes
    # here. Wherever the way led, a file without the block stays as it is.
    new=./.$(basename -- "$2").nqr-new
    rm -f -- "$new"
    if [ -L "$2" ] || { [ -e "$2" ] && [ ! -f "$2" ]; }; then
        kept "$1 is no longer a file"
        return
    fi
    [ -f "$2" ] || return 0
    owner=$(stat -c %u -- "$2") group=$(stat -c %g -- "$2") mode=$(stat -c %a -- "$2")
    worker=$(stat -c %u .) # if no one else writes here
    case $worker in
        0 | "$owner") [ "$((0$(stat -c %a .) & 022))" = 0 ] || worker='' ;;
        *) worker='' ;;
    esac
    if ! content=$(as_worker dd if="$2" iflag=nofollow,nonblock status=none && echo x); then
        try false "$1"
        return
    fi
    content=${content%x}
    printf '%s' "$content" | grep -qF "# BEGIN $3" || return 0
    if ! printf '%s' "$content" | grep -qF "# END $3"; then
        kept "our block in $1 has lost its end"
        return
    fi
    rest=$(printf '%s' "$content" | text=$5 awk -v b="# BEGIN $3" -v e="# END $3" '
        { bare = $0; gsub(/^[ \t]+|[ \t]+$/, "", bare) }
        bare == b && !done { inside = 1; printf "%s", ENVIRON["text"] }
        !inside { print }
        inside && bare == e { inside = 0; done = 1 }' && echo x)
    rest=${rest%x}
    if [ -n "$(printf '%s' "$content" | tail -c 1)" ]; then rest=${rest%?}; fi # awk(1) ends every line
    if [ "$4" = 1 ] && [ -z "$(printf '%s' "$rest" | tr -d ' \t\n')" ]; then
        try rm -f -- "$2"
    elif [ -n "$worker" ]; then
        # shellcheck disable=SC2016  # its own words
        printf '%s' "$rest" | as_worker sh -c 'cp -a -- "$1" "$2" && cat >"$2" && mv -fT -- "$2" "$1"' sh "$2" "$new" ||
            try false "$1"
    elif printf '%s' "$rest" | new_file "$new"; then
        try mv -fT -- "$new" "$2"
    else
        try false "$1"
    fi
}
as_worker() { # words; without root's terminal, where a program of the other user could type
    if [ "$worker" = "$(id -u)" ]; then
        "$@"
    else # it may have no name any more
        setsid -w setpriv --reuid "$owner" --regid "$group" --clear-groups -- "$@"
    fi
}
new_file() { # path; it gets owner, group and mode as it is made. The content on standard input
    (umask "$(printf '%04o' $((0777 & ~0$mode)))" && as_worker dd of="$1" conv=excl,fsync status=none)
}
"""


def file(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    path, ours, prior = args["path"], args.get("ours") or "", args.get("prior")
    if prior is None:
        yield call("remove_file", path, ours)
    elif prior["kind"] == "symlink":
        yield call("put_link", path, ours, prior["target"])
    else:
        yield from content(path, ours, prior["sha256"], prior, context.originals.read(prior["sha256"]))


def content(path: str, ours: str, digest: str, kept: dict[str, Any], data: bytes) -> Iterator[str]:
    head = call("restore_file", path, ours, digest, f"{kept['mode']:04o}", kept["owner"], kept["group"])
    yield f"{head} <<'END_OF_ORIGINAL'"
    text = base64.b64encode(data).decode()
    yield from (text[at : at + _WIDTH] for at in range(0, len(text), _WIDTH))
    yield "END_OF_ORIGINAL"
    for name, value in kept.get("xattrs", {}).items():
        yield call("set_attribute", path, name, f"0s{value}")


def block(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("remove_block", args["path"], args["marker"], int(bool(args.get("created"))))


def block_text(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("restore_block", args["path"], args["marker"], args["prior"])


def directory(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("remove_tree" if args.get("tree") else "remove_directory", args["path"])


def former(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("remove_tree", args["beside"])


def contents(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("remove_contents", args["path"])


def mode(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("restore_mode", args["path"], f"{args['mode']:04o}", args["owner"], args["group"])


def symlink(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("restore_link", args["path"], args["ours"], args.get("prior") or "")
