#!/bin/sh
# Builds the virtual environment $1 with the newest Python that Colloquy's dependencies are made
# for, or with $PYTHON_FOR_VENV.
set -eu

venv=$1
found_old=
found_bare=

for candidate in ${PYTHON_FOR_VENV:-python3.14 python3.13 python3.12 python3.11 python3 python}; do
    # A name can be there and not run (a version manager's shim), so each is tried.
    "$candidate" -c '' 2>/dev/null || continue
    if ! "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        found_old=$candidate
        continue
    fi
    if ! "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
        found_bare=$candidate
        continue
    fi
    echo "Building $venv with $("$candidate" --version) ..."
    rm -rf "$venv"
    "$candidate" -m venv "$venv"
    exit 0
done

{
    echo "Colloquy needs Python 3.11 or newer with its venv module."
    if [ -n "$found_bare" ]; then
        echo "$found_bare has no venv module: on Debian and Ubuntu, apt install python3-venv."
    elif [ -n "$found_old" ]; then
        echo "$found_old is too old: $("$found_old" --version)."
    else
        echo "None was found: on Debian, apt install python3-venv; on macOS, brew install python."
    fi
    echo "To name one yourself: make setup PYTHON_FOR_VENV=/path/to/python3"
} >&2
exit 1
