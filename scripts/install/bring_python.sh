# shellcheck shell=sh
# shellcheck disable=SC2154  # install.sh, which reads this file, sets the variables
# A Python for a host whose distribution has only an older one. It comes from a file of the administrator, or from uv.

unpack_python() { # of the administrator's file
    mkdir -- "$managed.new"
    archive=$managed.new/archive # a copy: others may be able to change the file after it was checked
    case $NQR_PYTHON_ARCHIVE in
        /*) found=$(cp -- "$NQR_PYTHON_ARCHIVE" "$archive" 2>>"$LOG" && sha256sum -- "$archive" 2>>"$LOG" | cut -d ' ' -f 1) || found='' ;;
        *) found='' ;;
    esac
    if [ -z "$found" ] || [ "$found" != "$(printf '%s' "${NQR_PYTHON_SHA256:-}" | tr '[:upper:]' '[:lower:]')" ]; then
        rm -rf -- "$managed.new"
        [ "$made_cache" = no ] || rm -rf -- "$CACHE"
        [ "$made_home" = no ] || rm -rf -- "$HOME_CACHE"
        fail NQR-DEP-906 2 "NQR_PYTHON_ARCHIVE names $NQR_PYTHON_ARCHIVE, whose sha256 is not NQR_PYTHON_SHA256." \
            "Give the absolute path of an archive of python-build-standalone (x86_64, install_only) and the sha256 that its publisher names."
    fi
    tar -xzf "$archive" --no-same-owner -C "$managed.new" >>"$LOG" 2>&1 && rm -f -- "$archive" || return 1
}
download_python() { # by uv: from its usual place or a mirror. uv knows the sha256 of what it downloads, and the lock that of uv
    old=''
    for candidate in /usr/bin/python3 /usr/bin/python3.9; do
        if [ -z "$old" ] && "$candidate" -I -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
            old=$candidate
        fi
    done
    if [ -z "$old" ] && [ "$manager" = apt ]; then
        apt_install "$CACHE/borrowed" python3-venv || return 1
        old=/usr/bin/python3
    fi
    [ -n "$old" ] || return 1
    say "Downloading Python, because this system has only $("$old" -I -c 'import platform; print(platform.python_version())') …"
    mkdir -- "$managed.new"
    in_root "$old" -I -m venv -- "$managed.new/venv" && in_root download "$managed.new/venv" "$managed.new" "$locks/uv.txt" || return 1
    in_root "$old" -I -m zipfile -e "$managed.new"/uv-*.whl "$managed.new/wheel" || return 1
    uv=$(ls "$managed.new"/wheel/uv-*.data/scripts/uv) && chmod 0755 -- "$uv" || return 1
    in_root env -u UV_PYTHON_INSTALL_DIR HOME="$managed.new" "$uv" --no-config --no-cache --system-certs python install --no-bin \
        --install-dir "$managed.new/uv" '>=3.11,<3.13' || return 1
    for found in "$managed.new"/uv/cpython-*; do
        if [ -d "$found" ] && [ ! -L "$found" ]; then mv -- "$found" "$managed.new/python"; fi
    done
}
bring_python() { # a Python that no package of the distribution brings; it works anywhere (relocatable)
    rm -rf -- "$managed" "$managed.new"
    if [ -n "${NQR_PYTHON_ARCHIVE:-}" ]; then unpack_python; else download_python; fi || {
        rm -rf -- "$managed.new"
        return 1
    }
    "$managed.new/python/bin/python3" -I -c 'import platform; print(platform.python_version())' >"$managed.new/python/.nqrust-python" 2>>"$LOG" &&
        chmod -R u+w,go+rX,go-w -- "$managed.new/python" && mv -- "$managed.new/python" "$managed" || return 1
    rm -rf -- "$managed.new"
    find_python
}
