#!/bin/sh
# The console in Debian's chromium, and axe-core's judgement of it. Pictures of its states are left in $BUILD/console.
set -eu
cd "$(dirname "$0")/../.."
: "${BUILD:=build}"
case ${MODE:-release} in asan | tsan) echo "the page is the same; tests/server/test_console runs the daemon's part" && exit 77 ;; esac
command -v chromium >/dev/null || { echo "chromium is not installed" && exit 77; }

# npm's axe-core in the version of package.json, fetched once a build folder.
there=$BUILD/console
axe=$there/node_modules/axe-core/axe.min.js
mkdir -p "$there"
why=
if ! cmp -s tests/console/package-lock.json "$there/package-lock.json" || ! [ -e "$axe" ]; then
    cp tests/console/package.json tests/console/package-lock.json "$there"
    if ! command -v npm >/dev/null; then
        why="npm is not installed"
    elif ! (cd "$there" && timeout 60 npm ci --no-audit --no-fund --ignore-scripts) >"$there/npm.log" 2>&1; then
        why="npm cannot fetch axe-core: $(grep -m 1 'npm ERR\|npm error' "$there/npm.log" || echo 'no answer within a minute')"
    fi
fi
AXE=$([ "$why" ] || echo "$axe") BUILD=$BUILD /usr/bin/python3 tests/console/console.py
[ -z "$why" ] || { echo "all but what axe-core says has passed: $why" && exit 77; }
