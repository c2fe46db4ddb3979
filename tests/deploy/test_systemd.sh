#!/bin/sh
# The units are well-formed, and systemd finds them closed: at most 1.5 of 10. Skipped where there is no systemd-analyze.
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:=build}"
command -v systemd-analyze >/dev/null || {
    echo "skipped: systemd-analyze is not installed"
    exit 77
}
work=$(mktemp -d "${TMPDIR:-/tmp}/embsum-systemd.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
failed=0 count=0

for unit in deploy/systemd/*.service; do
    count=$((count + 1))
    systemd-analyze security --offline=yes --no-pager --threshold=15 "$unit" >"$work/report" 2>&1 || {
        cat "$work/report"
        failed=1
    }
    # A word that it does not know it only mentions.
    grep "$unit" "$work/report" && failed=1
    echo "$unit: $(tail -n 1 "$work/report")"
done
[ "$count" -ge 2 ] || { echo "only $count units found: the search is broken" && failed=1; }

# The judge is awake: a unit that closes nothing does not pass.
printf '[Service]\nExecStart=/bin/true\n' >"$work/open.service"
! systemd-analyze security --offline=yes --no-pager --threshold=15 "$work/open.service" >/dev/null 2>&1 ||
    { echo "an open unit passes: the threshold does not count" && failed=1; }

for unit in deploy/systemd/*; do
    sed "s,/usr/local/bin/,$(cd "$BUILD" && pwd)/," "$unit" >"$work/$(basename "$unit")"
done
for unit in deploy/systemd/*; do
    systemd-analyze verify --man=no --recursive-errors=no "$work/$(basename "$unit")" >"$work/verified" 2>&1 &&
        [ ! -s "$work/verified" ] || { cat "$work/verified" && failed=1; }
done
exit "$failed"
