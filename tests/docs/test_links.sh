#!/bin/sh
# The documentation's links, anchors, targets, files and options exist.
set -eu
cd "$(dirname "$0")/../.."
exec python3 -B tests/docs/links.py
