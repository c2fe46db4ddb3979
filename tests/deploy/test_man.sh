#!/bin/sh
# The man pages are well-formed mdoc, and say what they are called. Skipped where mandoc is not installed.
set -u
cd "$(dirname "$0")/../.." || exit 1
command -v mandoc >/dev/null || {
    echo "skipped: mandoc is not installed"
    exit 77
}
work=$(mktemp -d "${TMPDIR:-/tmp}/embsum-man.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
failed=0 count=0
for page in docs/man/*.[158]; do
    count=$((count + 1))
    # Of what it calls style: not the length of lines, and not that this is no page of an operating system.
    mandoc -Tlint -Wstyle "$page" 2>/dev/null |
        grep -v 'longer than 80 bytes\|referenced manual not found\|operating system explicitly specified' >"$work/lint"
    [ ! -s "$work/lint" ] || { cat "$work/lint" && failed=1; }
    name=${page##*/}
    title=$(echo "${name%.*}" | tr a-z A-Z)
    grep -qx ".Dt $title ${name##*.}" "$page" || { echo "$page: its title is not $title(${name##*.})" && failed=1; }
    mandoc -Tutf8 "$page" >"$work/text" && [ "$(wc -l <"$work/text")" -gt 20 ] || { echo "$page is not shown" && failed=1; }
    # What it refers to is there.
    sed -n 's/^\.Xr \(embsum[a-z.-]*\) \([158]\).*/\1.\2/p' "$page" | while read -r other; do
        [ -e "docs/man/$other" ] || echo "$page refers to $other, which is not there"
    done >"$work/missing"
    [ ! -s "$work/missing" ] || { cat "$work/missing" && failed=1; }
done
[ "$count" -ge 5 ] || { echo "only $count pages found: the search is broken" && failed=1; }
# The judge is awake.
printf '.Dt X 1\n.Sh NAME\n.Nm\n.Bl\n' >"$work/bad.1"
mandoc -Tlint "$work/bad.1" | grep -q WARNING || { echo "a bad page passes" && failed=1; }
[ "$failed" = 0 ] && echo "$count pages"
exit "$failed"
