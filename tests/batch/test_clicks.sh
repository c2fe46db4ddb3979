#!/bin/sh
# Clicks from the command line and from a feed backend's XADD, rows appended to a file that is followed: users are fresh at once, and
# a daemon hears of it. On Redis; the library's tests have every kind of store.
set -u
: "${BUILD:=build}"
embsum=$BUILD/embsum
[ -x /usr/bin/redis-server ] || { echo "skipped: redis-server is needed"; exit 77; }
dir=$(mktemp -d)
redis-server --port 0 --unixsocket "$dir/redis.sock" --save '' --dir "$dir" >/dev/null &
redis=$!
follower=
daemon=
stop() { # PID: end it and wait
    [ -n "$1" ] && kill "$1" 2>/dev/null && wait "$1"
}
trap 'stop "$follower"; stop "$daemon"; stop $redis; rm -rf "$dir"' EXIT
ask() { redis-cli -s "$dir/redis.sock" "$@"; }
for _ in $(seq 1 $((100 * ${EMBSUM_SLOW:-1}))); do ask PING >/dev/null 2>&1 && break; sleep 0.05; done
demo=deploy/demo
store=redis+unix:$dir/redis.sock
failed=0
cp $demo/behaviors.tsv "$dir/behaviors.tsv"

refresh() { $embsum refresh --model $demo/model --news $demo/news.tsv --store "$store" --quiet "$@"; }
check() { # NAME EXPECTED-CODE PATTERN COMMAND...
    name=$1 want=$2 pattern=$3
    shift 3
    "$@" >"$dir/out" 2>&1
    got=$?
    if [ "$got" != "$want" ] || ! grep -q -- "$pattern" "$dir/out"; then
        echo "FAILED: $name: exit $got (wanted $want), pattern '$pattern', output:"
        sed 's/^/    /' "$dir/out"
        failed=1
    fi
}

check "first" 0 '"users":97' refresh --behaviors "$dir/behaviors.tsv"
check "without the file" 0 '"users":97.*"tokens":0' refresh
check "a click of one who is known" 0 '"encoded":{"users":1,"contents":0' refresh --click U35 N1014
check "a click of one who is new" 0 '"users":98,"contents":288,"encoded":{"users":1' refresh --click Unew N1014
check "a click alone" 0 '{"clicks":1}' $embsum refresh --click Unew N1183 --store "$store"
check "a click by XADD" 0 "" ask XADD '{embsum}:clicks' '*' user Unew item N1149
check "what is no click" 0 "" ask XADD '{embsum}:clicks' '*' what ever
check "both are taken in" 0 '"encoded":{"users":1,"contents":0' refresh
check "and gone from the stream" 0 '^0$' ask XLEN '{embsum}:clicks'
check "the history" 0 'N1183' ask GET embsum:shared:h:Unew
check "the file does not have them" 0 '"users":98.*"tokens":0' refresh --behaviors "$dir/behaviors.tsv"
check "an id that is none" 1 "id" $embsum refresh --click "U 1" N5 --store "$store"
check "a click without an item" 2 "needs the ITEM" $embsum refresh --click U1 --store "$store"
check "an item without a click" 2 "goes with --click" refresh N5
check "no model" 2 "missing: --model and --news" $embsum refresh --store "$store"
check "a click and a file" 2 "takes one user" refresh --click U1 N5 --behaviors "$dir/behaviors.tsv"
check "forgotten" 0 '"deleted":{"users":1,' refresh --forget Unew
check "no history" 0 '^$' ask GET embsum:shared:h:Unew
check "one of the file" 1 "is in the behaviours file" refresh --behaviors "$dir/behaviors.tsv" --forget U35
check "verified" 0 "97 users, 288 contents.*all good" $embsum generations verify --store "$store"

# ---- followed, with a daemon that looks ten times a second ----
cat >"$dir/config.json" <<EOF
{"server": {"listen": "127.0.0.1:0"}, "store": {"url": "$store", "poll_ms": 100}, "log": {"level": "info"}}
EOF
$BUILD/embsumd --config "$dir/config.json" >"$dir/daemon.log" 2>&1 &
daemon=$!
$embsum refresh --model $demo/model --news $demo/news.tsv --store "$store" --quiet --behaviors "$dir/behaviors.tsv" --follow \
    >"$dir/follow" 2>&1 &
follower=$!
await() { # NAME COMMAND...: until it is true, some seconds at most
    name=$1
    shift
    for _ in $(seq 1 $((160 * ${EMBSUM_SLOW:-1}))); do "$@" && return; sleep 0.05; done
    echo "FAILED: $name"
    tail -5 "$dir/follow" "$dir/daemon.log"
    failed=1
}
lines() { [ "$(wc -l <"$dir/follow")" -ge "$1" ]; }
address() { address=$(sed -n 's/.*"msg":"listening","address":"\([^"]*\)".*/\1/p' "$dir/daemon.log"); [ -n "$address" ]; }
await "the first run" lines 1
await "the daemon" address
rank() { curl -s "$address/rank?user=$1&candidates=N1014,N1183,N1149,N1200&top_k=4"; }
ranked() { rank "$1" | grep -q "\"user_status\":\"$2\""; }
await "nobody knows the user" ranked Ufresh default
start=$(date +%s%N)
ask XADD '{embsum}:clicks' '*' user Ufresh item N1183 >/dev/null
await "the user of a click" ranked Ufresh present
echo "a click by XADD is ranked after $((($(date +%s%N) - start) / 1000000)) ms"
start=$(date +%s%N)
printf '9999\tUrow\t11/24/2026 3:00:00 AM\tN1014 N1149\t\n' >>"$dir/behaviors.tsv"
await "the user of a row" ranked Urow present
echo "a row appended is ranked after $((($(date +%s%N) - start) / 1000000)) ms"
printf '9999\tUhalf\t11/24/2026 3:00:00 AM\tN1014' >>"$dir/behaviors.tsv" # a line that is still being written
sleep 0.6
printf ' N1149\t\nbad row\n' >>"$dir/behaviors.tsv"
await "the user of a row in two pieces" ranked Uhalf present
await "a bad row is told" grep -q "columns instead of 5" "$dir/follow"
before=$(wc -l <"$dir/follow")
sed '/\tU35\t/d' "$dir/behaviors.tsv" >"$dir/next" && mv "$dir/next" "$dir/behaviors.tsv"
sed -i '$d' "$dir/behaviors.tsv"
more() { grep -q '"deleted":{"users":1' "$dir/follow"; }
await "a file that is another one now is read as a whole" more
[ "$before" -lt "$(wc -l <"$dir/follow")" ] || failed=1
check "another writer gets in between" 0 '"complete":true' refresh --click Ubetween N1014
kill -TERM $follower
wait $follower
code=$?
[ "$code" = 0 ] || { echo "FAILED: SIGTERM while following: exit $code"; tail -5 "$dir/follow"; failed=1; }
follower=
check "verified at the end" 0 "all good" $embsum generations verify --store "$store"
exit $failed
