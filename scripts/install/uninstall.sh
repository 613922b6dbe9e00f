#!/bin/sh
# Takes NQRust-MicroVM out of this host again: `nqr uninstall` with every argument as given. Uses the installed `nqr`
# when there is one, else the bootstrap of install.sh.
set -eu
umask 022

script=$(readlink -f -- "$0")
installed=/usr/local/bin/nqr
home_cache=/var/cache/nqrust-microvm # it names every other cache that a bootstrap created
cache=${NQR_CACHE_DIR:-$home_cache}

nothing() { # output of `nqr uninstall --output json` on a host without an installation
    case $(printf '%s' "$dry_run" | tr '[:upper:]' '[:lower:]') in
        1 | true | yes | on)
            printf '%s%s%s\n' '{"type": "plan", "verb": "uninstall", "phases": [{"name": "end", "title": "At the very end",' \
                ' "changes": [], "satisfied": 0, "notes": [], "skipped": ""}],' \
                ' "warnings": ["nqr has installed nothing on this host."], "stays": [], "changes": 0}'
            ;;
    esac
    printf '%s%s\n' '{"type": "summary", "outcome": "ok", "changed": 0, "satisfied": 0, "phases": [], "seconds": 0.0,' \
        ' "urls": {}, "exit_code": 0, "notes": ["nqr has installed nothing on this host."]}'
}

output=${NQR_OUTPUT:-text}
dry_run=${NQR_DRY_RUN:-no}
value_of=''
for argument in "$@"; do
    case $value_of$argument in
        --outputjson | --output=json) output=json ;;
        --outputtext | --output=text) output=text ;;
        --dry-run) dry_run=yes ;;
        --no-dry-run) dry_run=no ;;
    esac
    value_of=''
    case $argument in
        --output | --script | --save-fingerprint | --log-level) value_of=$argument ;;
        -h | --help)
            if [ "$(id -u)" -ne 0 ] || [ ! -d "$cache" ]; then
                echo "Usage: uninstall.sh [--purge-data] [--drop-database] [--keep-packages] [--non-interactive] [--dry-run]"
                echo "           [--output text|json] [--script FILE] [--save-fingerprint FILE]   (as root)"
                exit 0
            fi
            ;;
    esac
done
if [ "$(id -u)" -eq 0 ]; then
    # Another program may have that name: run only the link that an nqr install created.
    case $(readlink -f -- "$installed" 2>/dev/null) in
        */installer/venv/bin/nqr) # without its Python it cannot even print its version
            if "$installed" version >/dev/null 2>&1; then exec "$installed" uninstall "$@"; fi
            ;;
    esac
    # An uninstall leaves edits of an administrator, with the suffix .nqr-kept.
    state=$(find /var/lib/nqrust-microvm ! -type d ! -name '*.nqr-kept*' 2>/dev/null | head -n 1)
    if [ ! -e "$cache" ] && [ ! -e "$home_cache" ] && [ -z "$state" ] && [ ! -e /opt/nqrust-microvm ]; then
        if [ "$output" = json ]; then
            nothing
        else
            echo "NQRust-MicroVM is not installed on this host; nothing to do." >&2
        fi
        exit 0
    fi
fi
NQR_VERB=uninstall exec sh "$(dirname -- "$script")/install.sh" "$@"
