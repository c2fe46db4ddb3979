#!/bin/sh
# make bench in its smallest form.
set -eu
cd "$(dirname "$0")/../.."
: "${BUILD:=build}"
case ${MODE:-release} in asan | tsan) echo "a benchmark of a sanitizer's build says nothing" && exit 77 ;; esac
command -v wrk >/dev/null || { echo "wrk is not installed" && exit 77; }
BUILD=$BUILD exec /usr/bin/python3 tests/bench/test_serve.py
