#!/bin/sh
# Every shell script of the tree can be parsed, and pleases shellcheck where it is installed.
set -u
cd "$(dirname "$0")/../.." || exit 1
failed=0 count=0
shellcheck=$(command -v shellcheck)
[ "$shellcheck" ] || echo "shellcheck is not installed: the scripts are parsed only"
for file in $(find . \( -name .git -o -name build \) -prune -o -type f -size -200k -print | sort); do
    case $(head -n 1 "$file" | tr -d '\0') in
    '#!/bin/sh'*) shell='sh' ;;
    '#!/usr/bin/env bash'*) shell='bash' ;;
    *) case $file in *.sh) echo "$file: the first line names no shell" && failed=1 ;; esac && continue ;;
    esac
    count=$((count + 1))
    $shell -n "$file" || failed=1
    [ -z "$shellcheck" ] || shellcheck -s "$shell" -S warning "$file" || failed=1
done
[ "$count" -ge 5 ] || { echo "only $count scripts found: the search is broken" && failed=1; }
[ "$failed" = 0 ] && echo "$count scripts"
exit "$failed"
