#!/bin/sh
# Find a Python that is new enough and let it run tools/install.py.
#   tools/install.sh VENV [--dev]
# PYTHON=... names the interpreter. A command of the right name is not enough (version managers
# put placeholders on the path), so each candidate is tried.
set -eu
here=${0%/*}
need='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'

for python in ${PYTHON:-python3.13 python3.12 python3.11 python3 python3.14}; do
    if "$python" -c "$need" >/dev/null 2>&1; then
        exec "$python" "$here/install.py" "$@"
    fi
done

if [ -n "${PYTHON:-}" ]; then
    echo "error: PYTHON=$PYTHON is not Python 3.11 or newer with venv and ensurepip" >&2
else
    echo "error: no Python 3.11 or newer with the venv module was found;" \
        "install one (Debian and Ubuntu: apt install python3 python3-venv) or set PYTHON" >&2
    for python in python3.13 python3.12 python3.11 python3 python3.14; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            echo "note: $python is new enough, but lacks venv or ensurepip" >&2
        fi
    done
fi
exit 1
