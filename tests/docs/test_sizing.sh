#!/bin/sh
# docs/SIZING.md: its tables are those of deploy/sizing.py, and the formulas are right: a Redis of the test's own is filled with
# random matrices, and a daemon in each scoring.dtype loads them. Each figure within 5 % of what the formula says.
set -eu
cd "$(dirname "$0")/../.."
: "${BUILD:=build}"
export BUILD
for need in redis-server redis-cli; do
    command -v $need >/dev/null || { echo "SKIPPED: $need is not installed"; exit 77; }
done
/usr/bin/python3 -c 'import numpy' 2>/dev/null || { echo "SKIPPED: python3-numpy is not installed"; exit 77; }
/usr/bin/python3 -B deploy/sizing.py --check
exec /usr/bin/python3 -B tests/docs/sizing.py
