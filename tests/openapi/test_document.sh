#!/bin/sh
# The OpenAPI documents by themselves: references, examples, limits and the router's table.
set -eu
cd "$(dirname "$0")/../.."
: "${BUILD:=build}"
EMBSUMD=$BUILD/embsumd exec /usr/bin/python3 tests/openapi/document.py
