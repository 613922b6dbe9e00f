# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034  # install.sh, which reads this file, sets the variables
# The Python packages of the installer, from a bundle (docs/start/air-gapped.md). nqr checks and unpacks the rest.

bundle='' # a file with everything, which replaces the network
release_key=${NQR_RELEASE_KEY:-}
config=${NQR_CONFIG:-} # a file that may name a key, too
opened='' # a folder with the bundle's Python
value_of=''
for argument in "$@"; do
    case $value_of$argument in
        --release-key=*) release_key=${argument#*=} ;;
        --release-key?*) release_key=$argument ;;
        --config=*) config=${argument#*=} ;;
        --config?*) config=$argument ;;
        --release*.tar.zst) bundle=${argument#--release=} ;;
    esac
    value_of=''
    case $argument in
        --) break ;;
        --release | --release-key | --config) value_of=$argument ;;
    esac
done
[ -n "$bundle" ] || case ${NQR_RELEASE:-} in *.tar.zst) bundle=$NQR_RELEASE ;; esac
[ -f "$bundle" ] || bundle='' # nqr names what is wrong with it

plain_bundle() { # bundle: its tar archive on standard output
    if command -v zstd >/dev/null 2>&1; then
        zstd -q -d -c -- "$1"
        return
    fi
    # dpkg-deb has a decoder for the data of packages, ar(5) with three members. A bare Debian has no other.
    size=$(stat -L -c %s -- "$1")
    {
        printf '!<arch>\n%-16s%-12s%-6s%-6s%-8s%-10s`\n2.0\n' debian-binary 0 0 0 100644 4
        printf '%-16s%-12s%-6s%-6s%-8s%-10s`\n' control.tar 0 0 0 100644 0
        printf '%-16s%-12s%-6s%-6s%-8s%-10s`\n' data.tar.zst 0 0 0 100644 "$size"
        cat -- "$1"
        [ $((size % 2)) = 0 ] || echo
    } | dpkg-deb --fsys-tarfile -
}
signed_by_key() { # list, signature: did the key in $release_key sign the list? openssl can tell from version 3 on, its library before
    openssl pkeyutl -verify -rawin -pubin -inkey "$release_key" -sigfile "$2" -in "$1" >/dev/null 2>&1 && return 0
    [ -x /usr/bin/python3 ] || return 1
    /usr/bin/python3 -I -B "$checkout/scripts/install/verify_signature.py" "$release_key" "$2" "$1" >/dev/null 2>&1
}
python_of_bundle() { # names the bundle's Python in NQR_PYTHON_ARCHIVE. If somebody names a key, it must have signed the list
    place=$CACHE # only root can change it or its parents, which is not so of each TMPDIR
    while [ ! -d "$place" ]; do place=$(dirname -- "$place"); done
    opened=$(mktemp -d -- "$place/nqrust-python.XXXXXXXXXX") || return 1
    trap 'rm -rf -- "$opened"' EXIT # until close_bundle
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    packed=$opened/python/python.tar.gz
    plain_bundle "$bundle" 2>/dev/null |
        tar --no-same-owner -C "$opened" -xf - checksums.txt checksums.txt.sig python/python.tar.gz 2>/dev/null || true
    for file in "$packed" "$opened/checksums.txt" "$opened/checksums.txt.sig"; do
        if [ -L "$file" ] || { [ -e "$file" ] && [ ! -f "$file" ]; }; then return 1; fi # others could change what a link leads to
    done
    if [ ! -f "$packed" ] || [ ! -f "$opened/checksums.txt" ]; then return 1; fi
    if [ -z "$release_key" ] && [ -n "$config" ] && grep -q public_key -- "$config" 2>/dev/null; then
        fail NQR-DEP-990 3 "The Python of the bundle $bundle was not used: only that Python could read the key in $config." \
            "Add --release-key with the same file, or install Python 3.10 or later from the distribution's medium."
    fi
    if [ -n "$release_key" ] && ! signed_by_key "$opened/checksums.txt" "$opened/checksums.txt.sig"; then
        fail NQR-DEP-964 3 "The Python of the bundle $bundle was not used: openssl did not prove that $release_key signed it." \
            "Install openssl (before version 3 also python3), check the key, and get the bundle from its publisher again."
    fi
    NQR_PYTHON_SHA256=$(sed -n 's,^\([0-9a-f]*\)  python/python\.tar\.gz$,\1,p' "$opened/checksums.txt")
    [ "$(sha256sum -- "$packed" | cut -d ' ' -f 1)" = "$NQR_PYTHON_SHA256" ] || return 1
    NQR_PYTHON_ARCHIVE=$packed
}
close_bundle() { # removes what python_of_bundle has opened
    [ -n "$opened" ] || return 0
    rm -rf -- "$opened"
    trap - EXIT INT TERM HUP
}
set_free() { # bundle: its wheels that the locks name, into the wheelhouse
    say "Reading $1 …"
    plain_bundle "$1" 2>>"$LOG" 9>&- |
        "$python" -I -B "$checkout/scripts/install/open_bundle.py" "$CACHE/wheelhouse" "$locks/installer.txt" "$locks/build.txt" \
            2>>"$LOG" 9>&- ||
        failed NQR-DEP-911 "The bundle $bundle could not be read." \
            "Copy it again. If this host has neither zstd nor a dpkg that reads it (1.21.18), install zstd first."
}
fill_from_bundle() {
    fill ||
        failed NQR-DEP-910 "The bundle does not hold the Python packages of this installer." \
            "Use the copy of the repository that the bundle was built from, or build the bundle again."
}
