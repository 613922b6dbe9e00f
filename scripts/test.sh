#!/usr/bin/env bash
# The one test command. On a fresh machine it sets itself up (Debian packages as root, a virtual environment), then it
# runs everything and ends with one line: `N passed, N failed, N skipped`. Exit status: 0 when nothing failed, 1
# otherwise, 2 for bad usage.
#
#   scripts/test.sh              everything but the long matrices
#   scripts/test.sh --all        the long matrices too
#   scripts/test.sh --fast       linters and unit tests only
#   scripts/test.sh ARG...       anything else goes to pytest: -k NAME, -x, or files (then only those files are run)
#
# Without root it runs what it can and says what is left out. NQR_TEST_WORKERS sets the number of pytest workers (2),
# NQR_TEST_CACHE the folder for base trees and downloaded packages, NQR_TEST_OUTPUT the one for results. No host test
# begins later than NQR_TEST_SECONDS after the start (no limit); those count as skipped, and the output says so.
set -uo pipefail
umask 022
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# What the tests use beyond Python; installed when missing. PACKAGES are found by name, PROGRAMS as `program:package`,
# so that another source of the same program (a Rust toolchain, a browser) is as good.
PACKAGES=(
    python3 python3-venv ca-certificates mmdebstrap systemd-container qemu-system-x86 screen dnsmasq-base iptables nftables
    iproute2 busybox-static e2fsprogs xfsprogs btrfs-progs qemu-utils grub-common kmod cpio tmux sudo util-linux zsh fish
    skopeo docker-registry umoci
)
PROGRAMS=(git:git shellcheck:shellcheck chromium:chromium cargo:cargo rustc:rustc gcc:gcc objcopy:binutils '/usr/lib/postgresql/*/bin/initdb:postgresql')

mode=default
pytest_args=()
selected=()
for argument in "$@"; do
    case $argument in
    --all) mode=all ;;
    --fast) mode=fast ;;
    -h | --help)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    *)
        if [ -e "${argument%%::*}" ]; then selected+=("$argument"); else pytest_args+=("$argument"); fi
        ;;
    esac
done

venv=$PWD/.venv
output=${NQR_TEST_OUTPUT:-$PWD/build/test-results}
workers=${NQR_TEST_WORKERS:-2}
passed=0 failed=0 skipped=0
broken=()
started=$SECONDS
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
[ -z "${NQR_TEST_SECONDS:-}" ] || export NQR_TEST_UNTIL=$(($(date +%s) + NQR_TEST_SECONDS))
trap 'echo; echo "interrupted"; exit 130' INT TERM

say() { printf '\n=== %s\n' "$*"; }

# --- setting up

install_packages() {
    local missing=() entry program
    command -v dpkg-query >/dev/null || { echo "not a Debian machine: install ${PACKAGES[*]} with its own package manager"; return 0; }
    for entry in "${PACKAGES[@]}"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$entry" 2>/dev/null)" = installed ] || missing+=("$entry")
    done
    for entry in "${PROGRAMS[@]}"; do
        program=${entry%%:*}
        command -v "$program" >/dev/null || compgen -G "$program" >/dev/null || missing+=("${entry##*:}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "not root, so these packages stay missing: ${missing[*]}"
        return 0
    fi
    say "installing ${missing[*]}"
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
    if ! { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "${missing[@]}"; } </dev/null >"$output/apt.log" 2>&1; then
        tail -n 20 "$output/apt.log"
        echo "could not install ${missing[*]}"
        return 1
    fi
}

# promtool is one program of the package prometheus, which would also start a server and bring a web interface: only the
# program is unpacked, beside the other caches, and only tests of the metrics miss it where that fails.
get_promtool() {
    local cache=${NQR_TEST_CACHE:-/var/cache/nqrust-tests} folder
    [ "$(id -u)" -eq 0 ] || cache=${NQR_TEST_CACHE:-$HOME/.cache/nqrust-tests}
    command -v promtool >/dev/null && return
    PATH=$PATH:$cache/promtool
    command -v promtool >/dev/null && return
    command -v dpkg-deb >/dev/null || return
    folder=$(mktemp -d) || return
    if (cd "$folder" && apt-get -q download prometheus && dpkg-deb -x prometheus_*.deb unpacked) </dev/null >"$output/promtool.log" 2>&1; then
        mkdir -p "$cache/promtool" && cp "$folder/unpacked/usr/bin/promtool" "$cache/promtool/"
    fi
    rm -rf "$folder"
}

find_python() {
    local candidate
    for candidate in /usr/bin/python3 /usr/bin/python3.{13,12,11,10} python3.{13,12,11,10} python3; do
        candidate=$(command -v "$candidate") || continue
        "$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || continue
        echo "$candidate"
        return 0
    done
    return 1
}

make_environment() {
    local python stamp
    python=$(find_python) || { echo "no Python 3.10 or newer with the venv module was found"; return 1; }
    stamp=$(cat pyproject.toml requirements/test.txt requirements/build.txt 2>/dev/null | sha256sum | cut -c1-16)-$("$python" -V | tr ' ' -)
    [ "$(cat "$venv/.test-stamp" 2>/dev/null)" != "$stamp" ] || return 0
    say "making .venv with $("$python" -V)"
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || return 1
    if [ -f requirements/test.txt ]; then
        # The build backend is among the locked packages; nothing unlocked comes in.
        pip_install --require-hashes -r requirements/test.txt && pip_install --no-deps --no-build-isolation --no-index -e .
    else
        pip_install -e '.[installer,manager,agent,ui,supervisord,test]'
    fi || return 1
    echo "$stamp" >"$venv/.test-stamp"
}

pip_install() { # like the installer, follow only pip settings that say how to reach an index
    "$venv/bin/python" -I -m pip config list |
        "$venv/bin/python" -I -B scripts/install/pip_of_host.py src install --quiet "$@" >"$output/pip.log" 2>&1 && return 0
    tail -n 40 "$output/pip.log"
    echo "could not install the Python packages"
    return 1
}

# --- stages. Each adds to the three sums; a stage that is no pytest run counts as one check.

finish() { # name, seconds, exit status
    if [ "$3" -eq 0 ]; then
        printf -- '--- %s: ok, %s s\n' "$1" "$2"
    else
        broken+=("$1")
        printf -- '--- %s: FAILED (%s), %s s\n' "$1" "$3" "$2"
    fi
}

check() { # name, program that it needs, command...
    local name=$1 program=$2 begin=$SECONDS status
    shift 2
    say "$name"
    if [ -n "$program" ] && ! command -v "$program" >/dev/null; then
        skipped=$((skipped + 1))
        echo "--- $name: skipped, $program is not installed"
        return
    fi
    "$@" </dev/null
    status=$?
    if [ $status -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    finish "$name" $((SECONDS - begin)) $status
}

add_results() { # junit file; adds to the sums, fails when it cannot be read
    local sums
    sums=$("$venv/bin/python" - "$1" <<'PY'
import sys
import xml.etree.ElementTree as tree

suites = tree.parse(sys.argv[1]).getroot().iter("testsuite")
total = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
for suite in suites:
    for key in total:
        total[key] += int(suite.get(key, 0))
bad = total["failures"] + total["errors"]
print(max(0, total["tests"] - bad - total["skipped"]), bad, total["skipped"])
PY
    ) || return 1
    read -r more_passed more_failed more_skipped <<<"$sums"
    passed=$((passed + more_passed)) failed=$((failed + more_failed)) skipped=$((skipped + more_skipped))
}

run_pytest() { # name, arguments...
    local name=$1 begin=$SECONDS status before=$failed
    shift
    say "$name"
    # Plain text goes to the terminal, the machine-readable report to a file.
    "$venv/bin/python" -m pytest --junitxml="$output/$name.xml" -o junit_family=xunit2 --durations=10 --durations-min=5 \
        "$@" "${pytest_args[@]}" </dev/null
    status=$?
    if [ $status -eq 5 ] && [ ${#pytest_args[@]} -gt 0 ]; then
        status=0 # the selection contains no test of this stage
    else
        add_results "$output/$name.xml" || status=$((status ? status : 1))
        [ $status -eq 0 ] || [ "$failed" -gt "$before" ] || failed=$((failed + 1))
    fi
    finish "$name" $((SECONDS - begin)) $status
}

suite() { # name, folder, arguments...
    local name=$1 folder=$2
    shift 2
    if [ -z "$(find "$folder" -name 'test_*.py' -print -quit 2>/dev/null)" ]; then
        say "$name"
        skipped=$((skipped + 1))
        echo "--- $name: skipped, $folder holds no tests"
        return
    fi
    run_pytest "$name" "$folder" "$@"
}

cargo_tests() {
    local log=$output/cargo.log status
    cargo test --offline --quiet --manifest-path guest-agent/Cargo.toml --target-dir "$output/cargo" >"$log" 2>&1
    status=$?
    cat "$log"
    return $status
}

# Tests misspell on purpose.
spelling() { git ls-files -z | grep -zvE '(^LICENSE$|\.svg$|^tests/)' | xargs -0 "$venv/bin/codespell"; }

shell_scripts() {
    git ls-files -z | while IFS= read -r -d '' file; do
        if [ -f "$file" ] && head -c 64 "$file" 2>/dev/null | head -n 1 | tr -d '\0' | grep -qE '^#!.*\b(ba|da)?sh\b'; then printf '%s\0' "$file"; fi
    done | xargs -0 -r shellcheck -e SC1091 # (a file of the machine that a script runs on)
}

slowest_files() { # where the next saving is: host tests of one file share their hosts, so a test's own time says little
    [ -f "$output/hosts.xml" ] || return 0
    say "host tests by file, in seconds"
    "$venv/bin/python" - "$output/hosts.xml" <<'PY'
import collections
import sys
import xml.etree.ElementTree as tree

seconds = collections.Counter()
for case in tree.parse(sys.argv[1]).getroot().iter("testcase"):
    seconds[case.get("classname", "").rpartition("tests.")[2]] += float(case.get("time", 0))
print("  ".join(f"{name} {round(taken)}" for name, taken in seconds.most_common()))
PY
}

# --- all of it

rm -rf "$output"
mkdir -p "$output" || exit 1
if ! install_packages || ! make_environment; then
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi
get_promtool
export PATH=$venv/bin:$PATH

but=' and not matrix'
[ $mode != all ] || but=

if [ ${#selected[@]} -gt 0 ]; then
    run_pytest selected "${selected[@]}"
else
    if [ ${#pytest_args[@]} -eq 0 ]; then
        check ruff '' "$venv/bin/ruff" check .
        check ruff-format '' "$venv/bin/ruff" format --check .
        check mypy '' "$venv/bin/mypy"
        check mypy-hosts '' env MYPYPATH=src "$venv/bin/mypy" --explicit-package-bases tests/hosts/machine
        check imports '' "$venv/bin/lint-imports"
        check spelling git spelling
        check shellcheck shellcheck shell_scripts
        [ ! -f guest-agent/Cargo.toml ] || check guest-agent cargo cargo_tests
    fi
    suite architecture tests/architecture
    run_pytest unit tests/unit tests/prose -n "$workers" -m "not hosts$but"
    if [ $mode != fast ]; then
        suite live tests/live -n "$workers" --dist loadfile --no-loadscope-reorder -m "not hosts$but"
        suite browser tests/browser -n "$workers" --dist loadfile -m "not hosts$but"
        [ $mode != all ] || NQR_TEST_TLS=1 suite browser-over-tls tests/browser -n "$workers" --dist loadfile -m "not hosts"
        # Tests of one file share their installed host; tests/conftest.py puts the longest files first.
        run_pytest hosts tests/hosts tests/live -n "$workers" --dist loadfile --no-loadscope-reorder -m "hosts$but"
    fi
fi

slowest_files
say "results ($((SECONDS - started)) s, reports in ${output#"$PWD"/})"
[ ${#broken[@]} -eq 0 ] || echo "not green: ${broken[*]}"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ ${#broken[@]} -eq 0 ]
