#!/bin/sh
# Prints the first Python that is new enough, or nothing. Each candidate is run: a shim may stand for a version that is not installed.
for candidate in python3.11 python3 python3.12 python3.13 python3.14 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        echo "$candidate"
        exit 0
    fi
done
