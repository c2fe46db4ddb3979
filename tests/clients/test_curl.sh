#!/bin/sh
# Every command of clients/curl.md, with what it answers.
set -eu
cd "$(dirname "$0")/../.."
: "${BUILD:=build}"
curl --help all 2>/dev/null | grep -q -e --json || {
    echo "SKIPPED: curl is not installed, or older than 7.82"
    exit 77
}
EMBSUM=$BUILD/embsum EMBSUMD=$BUILD/embsumd exec /usr/bin/python3 tests/clients/curl_lines.py
