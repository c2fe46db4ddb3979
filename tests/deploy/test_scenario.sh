#!/bin/sh
# The compose file's processes by hand, and the dashboard's queries answered with data (scenario.py says how).
set -eu
cd "$(dirname "$0")/../.."
exec python3 -B tests/deploy/scenario.py
