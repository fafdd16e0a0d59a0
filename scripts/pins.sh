#!/bin/sh
# Writes constraints.txt: exact versions of everything that `make install` brings, and nothing about where they came from.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check hatchling editables ".[test,check]"
"$python" -m pip freeze --exclude tidelog | grep -E '^[A-Za-z0-9._-]+==[^ ;@]+$' | LC_ALL=C sort -f >"$folder/pins"
{
    echo "# Written by \`make pins\`. Exact versions of everything in the tree; pyproject.toml holds the floors."
    cat "$folder/pins"
} >constraints.txt
