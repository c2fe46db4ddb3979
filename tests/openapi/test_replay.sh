#!/bin/sh
# Every example of the OpenAPI documents, sent to the daemon as it is written.
set -eu
cd "$(dirname "$0")/../.."
: "${BUILD:=build}"
EMBSUM=$BUILD/embsum EMBSUMD=$BUILD/embsumd exec /usr/bin/python3 tests/openapi/replay.py
