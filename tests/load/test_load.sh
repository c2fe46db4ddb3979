#!/bin/sh
# The load generators against a server whose stalls and errors are known.
set -eu
cd "$(dirname "$0")/../.."
: "${BUILD:=build}"
command -v wrk >/dev/null || echo "wrk is not installed: openloop alone is tested"
OPENLOOP=$BUILD/tests/load/openloop exec /usr/bin/python3 tests/load/test_load.py
