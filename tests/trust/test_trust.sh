#!/bin/sh
# What make trust shows in half an hour, each promise in a short form, with another seed each time (EMBSUM_SEED=N for a
# certain one).
set -eu
cd "$(dirname "$0")/../.."
if ! [ -x /usr/bin/redis-server ]; then
    echo "skipped: redis-server is not installed"
    exit 77
fi
case ${MODE:-release} in
asan | tsan) set -- soak ;; # the others measure memory and time, or are about the offline programs
esac
exec /usr/bin/python3 tests/trust/trust.py --short ${EMBSUM_SEED:+--seed "$EMBSUM_SEED"} "$@"
