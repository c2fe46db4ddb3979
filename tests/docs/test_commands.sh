#!/bin/sh
# The documentation's commands do what the pages say (commands.py), but for those of rules.txt. First, that it would notice.
set -eu
cd "$(dirname "$0")/../.."
for need in curl redis-server redis-cli; do
    command -v $need >/dev/null || { echo "SKIPPED: $need is not installed"; exit 77; }
done
page=$(mktemp --suffix=.md)
trap 'rm -f "$page"' EXIT
# expect CODE WHAT LINE...: a page of these lines passes (0) or does not (1)
expect() {
    want=$1 what=$2 code=0
    shift 2
    printf '    %s\n' "$@" >"$page"
    python3 -B tests/docs/commands.py "$page" >/dev/null || code=$?
    [ "$code" = "$want" ] || { echo "FAILED: $what: $code, expected $want" && exit 1; }
}
expect 0 "other figures, lines left out" "\$ printf '12 apples\\nof 3\\n' # a remark" "17 apples" "..." "of 3"
expect 1 "a command that fails" "\$ true" "\$ false"
expect 1 "other words" "\$ echo 12 pears" "12 apples"
expect 1 "lines in another order" "\$ echo one && echo two" "two" "one"
expect 1 "a command that is not marked" "embsum refresh --store lmdb:store" "\$ true"
python3 -B tests/docs/commands.py
