#!/bin/sh
# deploy/quickstart as a newcomer meets it: both stores, a port that is taken, a folder that is kept, Ctrl-C; and
# nothing is left behind. Installs nothing: tests/run has done that.
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:=build}"
export BUILD

work=$(mktemp -d "${TMPDIR:-/tmp}/embsum-test-quickstart.XXXXXX")
up=''
trap '[ -z "$up" ] || kill "$up"; rm -rf "$work"' EXIT
trap 'exit 143' INT TERM
mkdir "$work/tmp"
export TMPDIR="$work/tmp"

failed=0
fail() {
    echo "FAILED: $1"
    [ $# -lt 2 ] || sed 's/^/    /' "$2"
    failed=1
}
# expect WHAT CODE OUTPUT COMMAND...: its exit code; and nothing is left in the temporary folder
expect() {
    what=$1 wanted=$2 out=$3
    shift 3
    "$@" >"$out" 2>&1 </dev/null
    code=$?
    [ "$code" = "$wanted" ] || fail "$what: exit $code, expected $wanted" "$out"
    [ -z "$(ls -A "$TMPDIR")" ] || fail "$what leaves $(ls -A "$TMPDIR")"
}
ranking() {
    sed -n 's/^ *\([0-9]*\)\. [* ] *\(-\{0,1\}[0-9.]*\)  \(.*\)/\1 \2 \3/p' "$1"
}

expect "--help" 0 "$work/help" sh deploy/quickstart --help
grep -q -e '--redis' "$work/help" || fail "--help" "$work/help"
expect "an unknown argument" 2 "$work/unknown" sh deploy/quickstart --fast
expect "a missing value" 2 "$work/value" sh deploy/quickstart --port

expect "--once" 0 "$work/lmdb" sh deploy/quickstart --once --dir "$work/kept"
[ "$(ranking "$work/lmdb" | wc -l)" = 10 ] || fail "--once does not rank ten" "$work/lmdb"
ranking "$work/lmdb" | awk '$1 != NR || (NR > 1 && $2 > before) || NF < 4 { exit 1 } { before = $2 }' ||
    fail "the ranking is out of order or without titles" "$work/lmdb"
grep -q '"auc": 0\.9' "$work/lmdb" || fail "it does not show how good the model is" "$work/lmdb"
grep -q '^ *[0-9]*\. \* ' "$work/lmdb" || fail "it does not show what was clicked" "$work/lmdb"
grep -A 1 '^==> GET /users' "$work/lmdb" | tail -n 1 | grep -q '[a-z]' || fail "no summary is shown" "$work/lmdb"
[ -d "$work/kept/store" ] || fail "--dir keeps nothing"
# README shows what a newcomer sees: the same lines, figures aside, but for those that it leaves out.
sed -n '/^    ==> /,/^[^ ]/s/^    //p' README.md | sed '/^ *\.\.\.$/d; s/[0-9][0-9.]*/#/g' | grep . >"$work/shown"
sed 's/[0-9][0-9.]*/#/g' "$work/lmdb" | grep -vxFf - "$work/shown" >"$work/not_shown" && fail "README shows what is not so" "$work/not_shown"
[ "$(wc -l <"$work/shown")" -ge 10 ] || fail "README shows no quickstart" "$work/shown"

expect "--redis" 0 "$work/redis" sh deploy/quickstart --once --redis
[ "$(ranking "$work/lmdb")" = "$(ranking "$work/redis")" ] || fail "the two stores rank differently" "$work/redis"

# Stays up, on the port that was asked for, until Ctrl-C. (A shell's background job ignores SIGINT unless told.)
port=$(sed -n 's,^==> embsumd on http://127.0.0.1:,,p' "$work/redis")
[ "$port" ] || fail "no port is named" "$work/redis"
env --default-signal=INT sh deploy/quickstart --port "$port" --dir "$work/kept" >"$work/up" 2>&1 &
up=$!
tries=$((600 * ${EMBSUM_SLOW:-1}))
until grep -q 'stays up' "$work/up" || [ "$tries" = 0 ] || ! kill -0 "$up" 2>/dev/null; do
    tries=$((tries - 1))
    sleep 0.1
done
curl -sf -o /dev/null "http://127.0.0.1:$port/readyz" || fail "it does not stay up" "$work/up"
[ "$(ranking "$work/up")" = "$(ranking "$work/lmdb")" ] || fail "it ranks differently when it comes again" "$work/up"

# The port is taken now.
mkdir "$work/tmp2"
TMPDIR=$work/tmp2 sh deploy/quickstart --once --port "$port" --dir "$work/kept" >"$work/taken" 2>&1 </dev/null &&
    fail "a taken port is no error" "$work/taken"
tail -n 1 "$work/taken" | grep -q '^quickstart: port .* is taken' || fail "a taken port" "$work/taken"
[ -z "$(ls -A "$work/tmp2")" ] || fail "a failure leaves $(ls -A "$work/tmp2")"

kill -INT "$up"
wait "$up"
code=$?
up=''
[ "$code" = 0 ] || fail "Ctrl-C: exit $code" "$work/up"
[ -z "$(ls -A "$TMPDIR")" ] || fail "Ctrl-C leaves $(ls -A "$TMPDIR")"
curl -s -o /dev/null "http://127.0.0.1:$port/readyz"
[ $? = 7 ] || fail "the daemon outlives Ctrl-C"

[ "$failed" = 0 ] && echo "quickstart works"
exit "$failed"
