#!/bin/sh
# The Python client against the daemon, and against servers that are slow, busy or broken.
set -eu
cd "$(dirname "$0")/../.."
: "${BUILD:=build}"
EMBSUM=$BUILD/embsum EMBSUMD=$BUILD/embsumd exec /usr/bin/python3 tests/clients/python_client.py
