#!/bin/sh
# The shadow generation with real daemons: figures against a comparison of the test's own, promote, restarts, damage, stores
# that are away or not to be written to.
set -eu
cd "$(dirname "$0")/../.."
: "${BUILD:=build}"
EMBSUMD=$BUILD/embsumd EMBSUM=$BUILD/embsum exec /usr/bin/python3 tests/server/shadow.py
