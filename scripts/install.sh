#!/bin/sh
# Installs what locks pin into a virtual environment: install.sh .venv requirements.lock ...
#
# uv does it in a tenth of the time that pip takes. It does not read pip's settings: where those
# name an index in place of PyPI, or where uv does not get through, pip does it.
set -eu

python=$1/bin/python
shift
requirements=
for lock; do
    requirements="$requirements --requirement $lock"
done
pinned="--quiet --require-hashes --only-binary :all: --no-deps"

pip() {
    "$python" -m pip --disable-pip-version-check "$@"
}

has_index() {
    pip config list | grep -q '[.]index-url='
}

# shellcheck disable=SC2086 # words, on purpose
by_uv() {
    "$python" -c 'import uv' 2>/dev/null || pip install $pinned --requirement requirements-uv.lock
    "$python" -m uv pip install --no-cache --python "$python" $pinned $requirements
}

# shellcheck disable=SC2086
if has_index || ! by_uv; then
    pip install $pinned $requirements
fi
