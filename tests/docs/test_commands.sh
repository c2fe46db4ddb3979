#!/bin/sh
# The documentation's commands do what the pages say (commands.py), but for those of rules.txt.
set -eu
cd "$(dirname "$0")/../.."
for need in curl redis-server redis-cli; do
    command -v $need >/dev/null || { echo "SKIPPED: $need is not installed"; exit 77; }
done
exec python3 -B tests/docs/commands.py
