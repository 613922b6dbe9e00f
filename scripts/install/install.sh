#!/bin/sh
# Bootstrap of NQRust-MicroVM: finds a Python >= 3.10 of the system, makes a private environment for the installer
# below /var/cache/nqrust-microvm, and hands over to `nqr install` with every argument as given.
#
# What it changes on the host: that cache folder; Python itself where the host has none (recorded, and removed again by
# uninstall); and python3-venv where it is missing, for the seconds in which it is needed. Where the distribution has only an
# older Python, the cache folder gets one: from NQR_PYTHON_ARCHIVE, else by uv, which follows UV_PYTHON_INSTALL_MIRROR.
# NQR_WHEELS names a folder with every wheel of the installer: then the environment needs neither the network nor python3-venv.
# All it says goes to standard error, so that `--output json` stays clean.
set -eu
umask 022
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin${PATH:+:$PATH} # su(1) keeps a user's PATH, without sbin
export PATH

VERB=${NQR_VERB:-install}
HOME_CACHE=/var/cache/nqrust-microvm # uninstall looks here, and finds the names of other caches here
CACHE=${NQR_CACHE_DIR:-$HOME_CACHE}
MINIMUM='3, 10'

say() { printf '%s\n' "$*" >&2; }

# code, exit code, what, cure
fail() {
    say "$1: $3"
    say "  $4"
    exit "$2"
}

usage() {
    cat <<EOF
Usage: install.sh [OPTIONS]        (as root)

  --mode production|dev|minimal|manager|agent
  --network-mode nat|bridged|isolated     --bridge-name NAME
  --with-ui | --no-ui                     --with-container-runtime
  --non-interactive                       --config FILE.yaml
  --dry-run | --rehearse                  --output text|json
  --release FILE.tar.zst                  (a bundle: needs no network)

Every option: sudo install.sh --help once it has run, or docs/reference/settings.md.
EOF
}

wants_help=no
for argument in "$@"; do
    case $argument in
        --) break ;;
        -h | --help) wants_help=yes ;;
    esac
done

script=$(readlink -f -- "$0")
checkout=$(dirname -- "$(dirname -- "$(dirname -- "$script")")")
locks=$checkout/requirements
wheels=${NQR_WHEELS:-}
if [ ! -r "$locks/installer.txt" ] || [ ! -r "$locks/build.txt" ] || [ ! -d "$checkout/src/nqrust" ]; then
    fail NQR-DEP-904 2 "This installer is not complete: $checkout lacks requirements or src/nqrust." \
        "Start install.sh from a whole copy of the repository."
fi

if [ "$(id -u)" -ne 0 ]; then
    if [ "$wants_help" = yes ]; then
        usage
        exit 0
    fi
    fail NQR-USE-001 2 "Only root can do this; nothing was changed." \
        "Run the same command again with sudo in front."
fi

# shellcheck source=scripts/install/cache_folder.sh
. "$(dirname -- "$script")/cache_folder.sh"
# shellcheck source=scripts/install/reach.sh
. "$(dirname -- "$script")/reach.sh"
# shellcheck source=scripts/install/open_bundle.sh
. "$(dirname -- "$script")/open_bundle.sh"

# --- a Python that the service users can run too: of the system, never from somebody's home

managed=$CACHE/python # brought for a host with an older Python; the installation gets a copy
python=''
version=''
has_venv=0
probe() { # candidate: sets python, version, has_venv when it fits
    [ -x "$1" ] || return 1
    case $(readlink -f -- "$1") in
        /root/* | /home/* | '') return 1 ;;
    esac
    found=$("$1" -I -c "
import sys
if sys.version_info < ($MINIMUM): sys.exit(1)
from importlib.util import find_spec
print('%d.%d.%d' % sys.version_info[:3], 1 if find_spec('venv') and (sys.argv[1] or find_spec('ensurepip')) else 0)" "$wheels" 2>/dev/null) || return 1
    python=$1
    version=${found% *}
    has_venv=${found#* }
}
find_python() {
    for candidate in /usr/bin/python3 /usr/bin/python3.14 /usr/bin/python3.13 /usr/bin/python3.12 \
        /usr/bin/python3.11 /usr/bin/python3.10 /usr/local/bin/python3 "$managed/bin/python3"; do
        probe "$candidate" && return 0
    done
    return 1
}

find_python || true

environment_for() { # path of the environment for this Python and these locks
    key=$({ printf '%s %s\n' "$python" "$version"; cat -- "$locks/installer.txt" "$locks/build.txt"; } | sha256sum | cut -c1-16)
    printf '%s/bootstrap/%s' "$CACHE" "$key"
}

hand_over() { # environment, arguments
    environment=$1
    shift
    NQR_SOURCE_CHECKOUT=$checkout
    export NQR_SOURCE_CHECKOUT
    # Isolated (-I): neither the working directory nor the caller's PYTHON* variables can slip a module in.
    exec "$environment/bin/python" -I -X "pycache_prefix=$CACHE/pycache" -c '
import sys
sys.path.insert(0, sys.argv.pop(1))
sys.argv[0] = "nqr"
from nqrust.cli.__main__ import main
sys.exit(main())' "$checkout/src" "$VERB" "$@"
}

if [ -n "$python" ]; then
    environment=$(environment_for)
    if [ -f "$environment/.complete" ] && [ -x "$environment/bin/python" ] &&
        [ -f "$CACHE/bootstrap.json" ] && [ ! -s "$CACHE/borrowed" ]; then
        hand_over "$environment" "$@"
    fi
fi

# --- from here on the environment must be made

if [ "$wants_help" = yes ]; then
    usage
    exit 0
fi
if [ -n "$python" ]; then # report a mistyped option before any change
    "$python" -I -B "$(dirname -- "$script")/precheck.py" "$checkout/src" "$VERB" "$@" || exit $?
fi

if [ -z "$python" ] && [ -n "$bundle" ]; then
    [ -n "${NQR_PYTHON_ARCHIVE:-}" ] || python_of_bundle || fail NQR-DEP-909 3 "This host has no Python 3.10 or later, and no good one is in the bundle." \
        "Install python3 from the distribution's medium, or build the bundle on a host with the same old Python."
fi
made_cache=no
made_home=no
if [ "$CACHE" != "$HOME_CACHE" ] && [ "$VERB" != verify-clean ]; then # before the cache exists, so that uninstall finds it
    origin=made
    if [ -d "$CACHE" ]; then origin=used; fi
    if [ ! -d "$HOME_CACHE" ]; then
        mkdir -m 0700 -- "$HOME_CACHE"
        made_home=yes
    fi
    if ! grep -qxF -e "made $CACHE" -e "used $CACHE" "$HOME_CACHE/elsewhere" 2>/dev/null; then
        printf '%s %s\n' "$origin" "$CACHE" >>"$HOME_CACHE/elsewhere"
    fi
fi
if [ ! -d "$CACHE" ]; then
    mkdir -m 0700 -- "$CACHE"
    made_cache=yes
fi
LOG=$CACHE/bootstrap.log
(umask 077 && : >"$LOG")

failed() { # code, what, cure: with the end of the log
    say "The last lines of $LOG:"
    tail -n 12 -- "$LOG" | sed -e "s,://[^/ '\"@:]*:[^/ '\"]*@,://********@,g" -e 's/^/  | /' >&2
    fail "$1" 1 "$2" "$3"
}

if command -v flock >/dev/null 2>&1; then # two at once: the second waits, then finds the work done
    exec 9>"$CACHE/bootstrap.lock"
    flock -n 9 || { say "Waiting for another bootstrap to finish …"; flock -w 1200 9 || true; }
fi

apt() ( # apt-get waits for dpkg's lock alone, not for those of its lists and its archive
    code=0
    [ -z "$ca" ] || set -- -o "Acquire::https::CAInfo=$ca" "$@"
    for attempt in $(seq 300); do
        code=0
        DEBIAN_FRONTEND=noninteractive SUDO_FORCE_REMOVE=yes LC_ALL=C.UTF-8 LANGUAGE='' NEEDRESTART_MODE=l apt-get -q -y -o DPkg::Lock::Timeout=600 \
            -o APT::Install-Recommends=0 -o APT::Get::AutomaticRemove=0 -o Dpkg::Options::=--force-confold "$@" >"$LOG.apt" 2>&1 9>&- || code=$?
        cat -- "$LOG.apt" >>"$LOG"
        if [ $code = 0 ] || ! grep -qE '^E: (Could not get|Unable to acquire the dpkg frontend) lock' "$LOG.apt"; then break; fi
        [ "$attempt" != 1 ] || say "Waiting for another package manager to finish …"
        sleep 2
    done
    rm -f -- "$LOG.apt"
    return $code
)
apt_new() { # packages that an installation would add, one a line
    LC_ALL=C apt-get -s -o APT::Install-Recommends=0 install -- "$@" 2>>"$LOG" |
        sed -n 's/^Inst \([^ ]*\) (.*/\1/p'
}
needed_by_others() { # packages: would purging them take any other along?
    going=$(LC_ALL=C apt-get -s purge -- "$@" 2>>"$LOG") || return 0
    for name in $(printf '%s\n' "$going" | sed -nE 's/^(Purg|Remv) ([^ ]+).*/\2/p'); do
        case " $* " in *" $name "*) ;; *) return 0 ;; esac
    done
    return 1
}
write_down() { # list file, names one a line: before their installation
    { cat -- "$1" 2>/dev/null || true; printf '%s\n' "$2"; } | sort -u | sed '/^$/d' >"$1.new"
    mv -- "$1.new" "$1"
}
apt_install() { # list file, packages
    list=$1
    shift
    new=$(apt_new "$@")
    fresh=no
    if [ -z "$new" ]; then
        say "Reading the package lists …"
        apt update || true
        fresh=yes
        new=$(apt_new "$@")
    fi
    write_down "$list" "$new"
    say "Installing $* (waits while another package manager runs) …"
    apt --no-remove install -- "$@" || { [ $fresh = no ] && apt update && apt --no-remove install -- "$@"; } # (lists may be out of date)
}
dnf_new() { # as apt_new: the "Installing" tables; a name too long for its column stands alone in its line
    trusting_dnf --assumeno --setopt=install_weak_deps=False install "$@" 2>>"$LOG" 9>&- |
        sed -n '/^Installing/,/^[^ I]/ s/^ \([^ ][^ ]*\).*/\1/p'
}

offered() { # the version of python3 that apt would install: two numbers, or nothing while its lists do not know one
    LC_ALL=C apt-cache policy python3 2>/dev/null |
        sed -nE 's/^ *Candidate: ([0-9]+:)?([0-9]+)\.([0-9]+).*/\2 \3/p'
}
refuse_old_python() {
    give_back
    if [ $made_cache = yes ] && [ ! -s "$CACHE/brought" ]; then
        rm -rf -- "$CACHE"
        if [ $made_home = yes ]; then rm -rf -- "$HOME_CACHE"; fi
    fi
    fail NQR-DEP-901 3 "This system has no Python 3.10 or later, and none could be downloaded." \
        "Name a mirror in UV_PYTHON_INSTALL_MIRROR, or a file in NQR_PYTHON_ARCHIVE and NQR_PYTHON_SHA256. Or use a newer release of the distribution."
}
in_root() ( # the caller's working directory may be gone, or hold modules of its own
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore PIP_CACHE_DIR="${PIP_CACHE_DIR:-$CACHE/pip}"
    cd / && "$@" >>"$LOG" 2>&1 9>&-
)
# The download follows only the pip settings of this host that say how to reach the index; the rest follows none.
# A foreign constraint or target would break an install of locked packages.
download() { # environment, folder, locks
    pip=$1/bin/python
    folder=$2
    shift 2
    for lock in "$@"; do set -- "$@" -r "$lock"; shift; done
    "$pip" -I -m pip config list |
        "$pip" -I -B "$checkout/scripts/install/pip_of_host.py" "$checkout/src" -q download \
            --only-binary :all: --require-hashes --dest "$folder" "$@"
}
give_back() { # removes borrowed packages; uninstall removes any that cannot go now
    [ -s "$CACHE/borrowed" ] || return 0
    present=''
    while read -r package; do
        case $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) in
            *' installed') present="$present $package" ;;
        esac
    done <"$CACHE/borrowed"
    # shellcheck disable=SC2086  # a list of package names
    if [ -n "$present" ] && { needed_by_others $present || ! apt purge -- $present; }; then
        cat -- "$CACHE/borrowed" >>"$CACHE/brought"
    fi
    rm -f -- "$CACHE/borrowed"
}
# shellcheck source=scripts/install/bring_python.sh
. "$(dirname -- "$script")/bring_python.sh"
record() { # changes for uninstall to take back: packages that stay, and this folder
    packages=$(sed 's/.*/"&"/' "$CACHE/brought" 2>/dev/null | paste -sd, - 2>/dev/null || true)
    cat >"$CACHE/bootstrap.json.new" <<EOF
{"schema": 1, "manager": "${manager:-}", "packages": [$packages], "cache": "$CACHE"}
EOF
    mv -- "$CACHE/bootstrap.json.new" "$CACHE/bootstrap.json"
}

manager=''
if command -v apt-get >/dev/null 2>&1; then
    manager=apt
elif command -v dnf >/dev/null 2>&1; then
    manager=dnf
fi

# An earlier bootstrap was killed while apt was at work: what dpkg had begun is brought to its end.
if [ "$manager" = apt ] && { [ -s "$CACHE/borrowed" ] || { [ -z "$python" ] && [ -s "$CACHE/brought" ]; }; }; then
    for _ in $(seq 300); do # dpkg(1) ends with 2 while another program has its lock
        code=0
        DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 dpkg --force-confold --configure -a >>"$LOG" 2>&1 9>&- </dev/null || code=$?
        [ $code = 2 ] || break
        sleep 2
    done
    apt --no-remove --fix-broken install || true
fi

if [ -z "$python" ]; then
    case ${bundle:+bundle}$manager in
        bundle*)
            bring_python || failed NQR-DEP-911 "The Python of the bundle could not be unpacked." "Check the free space of $CACHE."
            close_bundle
            ;;
        apt)
            if [ -z "$(offered)" ]; then
                say "Reading the package lists …"
                apt update || true
            fi
            case $(offered) in # an older one is not even installed
                2\ * | 3\ [0-9]) bring_python || refuse_old_python ;;
                *)
                    apt_install "$CACHE/brought" python3 ||
                        failed NQR-DEP-902 "python3 could not be installed." \
                            "Run \`apt-get install python3\`, fix the problem that it reports, then try again."
                    ;;
            esac
            ;;
        dnf)
            for name in python3.11 python3.12; do
                new=$(dnf_new "$name")
                [ -z "$new" ] || break
            done
            if [ -n "$new" ]; then
                say "Installing $name …"
                write_down "$CACHE/brought" "$new"
                trusting_dnf -y -q --setopt=install_weak_deps=False install "$name" >>"$LOG" 2>&1 9>&- ||
                    failed NQR-DEP-902 "$name could not be installed." "Run \`dnf install $name\`, fix the problem that it reports, then try again."
            fi
            ;;
    esac
    record
    find_python || bring_python || refuse_old_python
    "$python" -I -B "$(dirname -- "$script")/precheck.py" "$checkout/src" "$VERB" "$@" || exit $?
    environment=$(environment_for)
fi

# python3-venv is only needed while the environment is made; `borrowed` survives an interruption.
if [ "$has_venv" = 0 ] && [ -z "$bundle" ] && [ ! -f "$environment/.complete" ]; then
    if [ "$manager" = apt ]; then
        package=python3-venv
        [ "$(readlink -f /usr/bin/python3 2>/dev/null)" = "$(readlink -f -- "$python")" ] || package=${python##*/}-venv
        apt_install "$CACHE/borrowed" "$package" ||
            failed NQR-DEP-902 "$package could not be installed." "Run \`apt-get install $package\`, fix the problem that it reports, then try again."
    else
        fail NQR-DEP-902 1 "$python cannot make virtual environments (module ensurepip is missing)." \
            "Install the package that brings ensurepip for $python, then try again."
    fi
fi

if [ ! -f "$environment/.complete" ]; then
    say "Preparing the installer's environment (Python $version) …"
    rm -rf -- "$environment"
    mkdir -p -- "$CACHE/bootstrap" "$CACHE/wheelhouse"
    # nqr compiles what it loads, into $CACHE/pycache; it would not read what pip compiles here.
    fill() { # with the pip of the environment, or with the one among the wheels that was named
        in_root env PIP_CONFIG_FILE=/dev/null "$environment/bin/python" -I -c '
import runpy, sys
sys.path[:0] = filter(None, [sys.argv.pop(1)])
runpy.run_module("pip", run_name="__main__", alter_sys=True)' "$(ls -- "$wheels"/pip-*.whl 2>/dev/null)" \
            --isolated -q install --no-compile --no-index --no-cache-dir \
            --find-links "${wheels:-$CACHE/wheelhouse}" --require-hashes -r "$locks/installer.txt" -r "$locks/build.txt"
    }
    if [ -n "$bundle" ]; then
        set_free "$bundle"
        wheels=$CACHE/wheelhouse
    fi
    # pip itself is among the wheels, so python3-venv is not needed.
    in_root "$python" -I -m venv ${wheels:+--without-pip} -- "$environment" ||
        failed NQR-DEP-903 "The installer's environment could not be made." "Check the free space of $CACHE, then try again."
    if [ -n "$bundle" ]; then
        fill_from_bundle
    # Reuse an earlier run's downloads, without the network.
    elif [ -n "$wheels" ]; then
        fill || failed NQR-DEP-903 "The installer's Python packages could not be installed from $wheels." \
            "Check the free space of $CACHE, then try again."
    elif [ -z "$(ls -A -- "$CACHE/wheelhouse")" ] || ! fill; then
        in_root download "$environment" "$CACHE/wheelhouse" "$locks/installer.txt" "$locks/build.txt" ||
            failed NQR-DEP-903 "The installer's Python packages could not be downloaded." \
                "Check the network, the proxy (https_proxy) and pip's index settings of this host, then try again."
        fill ||
            failed NQR-DEP-903 "The installer's Python packages could not be installed." \
                "Check the free space of $CACHE, then try again."
    fi
    printf '%s\n' "$version" >"$environment/.complete.new"
    mv -- "$environment/.complete.new" "$environment/.complete"
fi

give_back
record
exec 9>&-
hand_over "$environment" "$@"
