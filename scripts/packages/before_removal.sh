# The package's script before a removal or an upgrade; `removing` is yes or no.
#
# Services, network and packages of an installation go only by `nqr uninstall`. It runs the package manager, so it cannot run
# from within a removal.
fail() { # code, exit code, what, cure
    printf '%s: %s\n  %s\n' "$1" "$3" "$4" >&2
    exit "$2"
}

installed=no
[ ! -e /opt/nqrust-microvm ] || installed=yes
case $(readlink -f /usr/local/bin/nqr 2>/dev/null) in # its programs can be elsewhere (--install-dir)
    */installer/venv/bin/nqr) installed=yes ;;
esac
if [ "$removing" = yes ] && [ $installed = yes ] && [ "${NQR_KEEP_INSTALLATION:-}" != 1 ]; then
    fail NQR-DEP-908 1 "NQRust-MicroVM is installed on this host, so the package nqr stays." \
        "Run \`nqr uninstall\` first. To remove only the package, set NQR_KEEP_INSTALLATION=1."
fi
# Byte code of the pip that filled an installation's environments.
find /usr/lib/nqr -name __pycache__ -prune -exec rm -rf -- {} +
