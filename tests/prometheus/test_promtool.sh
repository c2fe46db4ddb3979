#!/bin/sh
# Prometheus' own tool judges what is scraped, the rules, the alerts' tests and the dashboard's expressions; the page, the docs and the
# dashboard know the same metrics. A Prometheus of the test's own, in a temporary folder and for some seconds, has data for the dashboard.
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:=build}"
for tool in promtool redis-server redis-cli curl python3; do
    command -v "$tool" >/dev/null || {
        echo "SKIPPED: $tool is not installed"
        exit 77
    }
done
failed=0
promtool check config deploy/prometheus/prometheus.yml || failed=1
promtool test rules deploy/prometheus/alerts_test.yml || failed=1

# The judge is awake: an alert that fires when it should not, or does not exist, is found.
work=$(mktemp -d "${TMPDIR:-/tmp}/embsum-promtool.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
cp deploy/prometheus/*.yml "$work"
sed -i 's/expr: embsum_ready == 0/expr: embsum_ready == 1/' "$work/alerts.yml"
! promtool test rules "$work/alerts_test.yml" >/dev/null 2>&1 || { echo "a wrong alert passes its test" && failed=1; }

BUILD=$(cd "$BUILD" && pwd) PYTHONDONTWRITEBYTECODE=1 python3 tests/prometheus/pages.py -v || failed=1
exit "$failed"
