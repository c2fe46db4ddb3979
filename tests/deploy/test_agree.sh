#!/bin/sh
# --help, the man pages, README.md, completion and the reference of the configuration name the same things (agree.py).
set -eu
cd "$(dirname "$0")/../.."
exec python3 -B tests/deploy/agree.py
