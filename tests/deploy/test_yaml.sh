#!/bin/sh
# deploy's YAML files are what the published schemas of Compose and Kubernetes ask for (schema/check.mjs, with packages of npm's
# registry of fixed versions, fetched into the build folder). Skipped where npm or the network is missing.
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:=build}"
skip() {
    echo "skipped: $1"
    exit 77
}
command -v npm >/dev/null && command -v node >/dev/null || skip "npm or node is not installed"
folder=$BUILD/tests/deploy/schema
mkdir -p "$folder"
cmp -s tests/deploy/schema/package.json "$folder/package.json" && [ -e "$folder/complete" ] || {
    rm -f "$folder/complete"
    cp tests/deploy/schema/package.json "$folder"
    (cd "$folder" && timeout 120 npm install --no-audit --no-fund --ignore-scripts >npm.log 2>&1) || skip "npm cannot fetch the packages"
    : >"$folder/complete"
}
cp tests/deploy/schema/check.mjs "$folder" && node "$folder/check.mjs" deploy/compose/compose.yaml deploy/kubernetes/*.yaml
