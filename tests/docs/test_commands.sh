#!/bin/sh
# The documentation's commands do what the pages say (commands.py), but for those of rules.txt. docs/PYTORCH.md needs PyTorch, and
# has a test of its own, test_pytorch.sh.
set -eu
cd "$(dirname "$0")/../.."
for need in curl redis-server redis-cli; do
    command -v $need >/dev/null || { echo "SKIPPED: $need is not installed"; exit 77; }
done
pages=
for page in docs/*.md; do
    [ "$page" = docs/PYTORCH.md ] || pages="$pages $page"
done
# shellcheck disable=SC2086 # a word a page
exec python3 -B tests/docs/commands.py $pages
