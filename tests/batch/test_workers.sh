#!/bin/sh
# A refresh that other processes encode: what is stored is what a refresh alone stores, however many there are, whoever of
# them dies, and whenever.
set -u
: "${BUILD:=build}" "${EMBSUM_SLOW:=1}"
command -v redis-server >/dev/null || { echo "SKIPPED: redis-server is not installed"; exit 77; }
embsum=$BUILD/embsum
dump=$BUILD/tests/trust/dump
dir=$(mktemp -d)
pids=
end() {
    for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
    rm -rf "$dir"
}
trap end EXIT
demo=deploy/demo
model=$demo/model
failed=0
cp $demo/news.tsv $demo/behaviors.tsv "$dir"

start_redis() {
    redis-server --port 0 --unixsocket "$dir/redis.sock" --save '' --appendonly no --dir "$dir" >"$dir/redis.log" &
    redis=$!
    pids="$pids $redis"
    until redis-cli -s "$dir/redis.sock" ping >/dev/null 2>&1; do sleep 0.05; done
}
url() { echo "redis+unix:$dir/redis.sock?db=$1"; }
cli() { redis-cli -s "$dir/redis.sock" -n "$@"; }
refresh() { # DB OPTIONS...
    db=$1
    shift
    $embsum refresh --model "$model" --news "$dir/news.tsv" --behaviors "$dir/behaviors.tsv" --store "$(url "$db")" "$@"
}
worker() { # DB OPTIONS...: its id is in $worker
    db=$1
    shift
    $embsum worker --model "$model" --store "$(url "$db")" --threads 1 "$@" >"$dir/worker.$db" 2>&1 &
    worker=$!
    pids="$pids $worker"
}
# check NAME EXPECTED-CODE PATTERN COMMAND...: the exit code, and a pattern in what was printed.
check() {
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
# in_background DB OPTIONS...: a refresh, its id is in $run
in_background() {
    db=$1
    shift
    $embsum refresh --model "$model" --news "$dir/news.tsv" --behaviors "$dir/behaviors.tsv" --store "$(url "$db")" "$@" \
        >"$dir/refresh.$db" 2>&1 &
    run=$!
    pids="$pids $run"
}
# until_there DB KEY: a key, or a minute
until_there() {
    for _ in $(seq 1200); do
        [ "$(cli "$1" exists "$2")" = 1 ] && return
        sleep 0.05
    done
    echo "FAILED: $2 is not there"
    failed=1
}
# same NAME DB: what is stored is what the refresh alone has stored in 0, bit for bit, and all of it is good; no queue is left.
same() {
    $dump "$(url 0)" >"$dir/right" && $dump "$(url "$2")" >"$dir/got"
    cmp "$dir/right" "$dir/got" || { echo "FAILED: $1: not what a refresh alone stores"; diff "$dir/right" "$dir/got" | head -n 5; failed=1; }
    check "$1: verify" 0 "all good" $embsum generations verify --store "$(url "$2")"
    left=$(cli "$2" keys '{embsum}:work*')
    [ -z "$left" ] || { echo "FAILED: $1: the queue is left: $left"; failed=1; }
}
# stops NAME ID: a worker ends after SIGTERM, with 0.
stops() {
    kill "$2"
    wait "$2"
    got=$?
    [ $got = 0 ] || { echo "FAILED: $1: exit $got"; failed=1; }
}
# told DB: the ids that readers of the generation were told
told() {
    cli "$1" --raw xrange "{embsum}:$(cli "$1" get '{embsum}:live'):changes" - + | grep -v '^[0-9]*-[0-9]*$' | paste -d ' ' - - | sort -u
}

start_redis
check "an embedded store" 1 "work is shared through a Redis store" $embsum refresh --model "$model" --news "$dir/news.tsv" \
    --behaviors "$dir/behaviors.tsv" --store "lmdb:$dir/store" --workers
check "a worker of an embedded store" 1 "work is shared through a Redis store" $embsum worker --model "$model" --store "lmdb:$dir/store"

# ---- nobody comes ----
in_background 9 --workers --max-seconds 31
nobody=$run

# ---- one, two, four ----
check "alone" 0 '"encoded":{"users":97,"contents":288,' refresh 0
for count in 1 2 4; do
    workers=
    for _ in $(seq $count); do
        worker $count
        workers="$workers $worker"
    done
    check "$count workers" 0 '"encoded":{"users":97,"contents":288,.*"complete":true' refresh $count --workers
    same "$count workers" $count
    for worker in $workers; do stops "$count workers" "$worker"; done
done
check "nothing new" 0 '"encoded":{"users":0,"contents":0,"tokens":0}' refresh 2 --workers

# ---- workers that are killed ----
worker 3
first=$worker
worker 3
second=$worker
in_background 3 --workers --silent 1
kills=0
while [ $kills -lt 8 ] && kill -0 "$run" 2>/dev/null; do
    sleep "0.$(awk "BEGIN { srand($$ + $kills); printf \"%02d\", 15 + 60 * rand() }")"
    kill -9 "$first" 2>/dev/null
    kills=$((kills + 1))
    first=$second
    worker 3
    second=$worker
done
wait "$run" || { echo "FAILED: workers that are killed"; failed=1; }
check "workers that are killed" 0 '"complete":true' cat "$dir/refresh.3"
[ $kills -ge 2 ] || { echo "FAILED: $kills workers were killed, that is no test"; failed=1; }
same "workers that are killed" 3
echo "$kills workers were killed"
kill "$first" "$second"

# ---- a refresh that is killed, by the next with workers and without; its lock is the one thing to wait for ----
for next in --workers --quiet; do
    worker 5
    in_background 5 --workers
    until_there 5 '{embsum}:work:done'
    kill -9 "$run"
    wait "$run" 2>/dev/null
    cli 5 del '{embsum}:lock' >/dev/null
    [ "$(cli 5 exists '{embsum}:work:job')" = 1 ] || { echo "FAILED: it was not killed at work"; failed=1; }
    check "a refresh that is killed, then $next" 0 '"complete":true' refresh 5 $next
    same "a refresh that is killed, then $next" 5
    stops "its worker" "$worker"
    cli 5 flushdb >/dev/null
done

# ---- one that is told to stop ----
in_background 7 --workers
until_there 7 '{embsum}:work'
kill "$run"
wait "$run" && { echo "FAILED: a refresh that is stopped: exit 0"; failed=1; }
check "stopped" 0 '"complete":false,"stopped":"signal"' cat "$dir/refresh.7"
[ "$(cli 7 exists '{embsum}:work')" = 0 ] || { echo "FAILED: the queue of one that was stopped is left"; failed=1; }

# ---- another model ----
cp -r "$model" "$dir/other"
printf ' ' >>"$dir/other/config.json"
in_background 7 --workers
until_there 7 '{embsum}:work'
check "another model" 1 "the work in the store is for the model .*other holds" $embsum worker --model "$dir/other" --store "$(url 7)"
check "another model, waiting" 0 "waiting for work that fits" $embsum worker --model "$dir/other" --store "$(url 7)" --wait --max-idle 2
worker 7
wait "$run"
stops "the right one" "$worker"
same "the right one" 7

# ---- a unit that nobody gives back ----
in_background 8 --workers --silent 1 --max-bad 1000
until_there 8 '{embsum}:work'
until [ "$(cli 8 xlen '{embsum}:work')" -gt 1 ]; do sleep 0.05; done
place=$(cli 8 --raw xreadgroup GROUP workers ghost COUNT 1 STREAMS '{embsum}:work' '>' | tr -d '\0' | grep -a -m 1 '^[0-9]*-[0-9]*$')
cli 8 xclaim '{embsum}:work' workers ghost 0 "$place" RETRYCOUNT 6 >/dev/null
worker 8 --max-idle 60
wait "$run" || { echo "FAILED: a unit that nobody gives back"; failed=1; }
check "a unit that nobody gives back" 0 'is left as it was: 6 workers took it and none gave it back' cat "$dir/refresh.8"
check "is counted" 0 '"refused":[1-9][0-9]*,.*"complete":true' cat "$dir/refresh.8"
stops "its worker" "$worker"
check "the next encodes it" 0 '"complete":true' refresh 8
same "a unit that nobody gave back" 8

# ---- a generation that is dropped under a worker: nothing of it stays ----
in_background 10 --workers
until_there 10 '{embsum}:work'
generation=$(cli 10 --raw hkeys '{embsum}:generations')
worker 10
until_there 10 '{embsum}:work:done'
kill -9 "$run"
wait "$run" 2>/dev/null
cli 10 hdel '{embsum}:generations' "$generation" >/dev/null
for _ in $(seq 600); do
    left=$(cli 10 --raw keys "embsum:$generation:*")
    [ -z "$left" ] && break
    sleep 0.05
done
[ -z "$left" ] || { echo "FAILED: of a dropped generation are left:" $left; failed=1; }
stops "who wrote them" "$worker"

# ---- inside the live generation ----
sed -i 's/^\(N1014\t[^\t]*\t[^\t]*\t\)/\1Changed: /' "$dir/news.tsv"
sed -i '5,6d' "$dir/news.tsv"
sed -i '/\tU12\t/d' "$dir/behaviors.tsv"
check "alone, inside" 0 '"deleted":{"users":1,"contents":2}' refresh 0
worker 2 --max-idle 60
check "inside" 0 '"deleted":{"users":1,"contents":2}.*"complete":true' refresh 2 --workers
same "inside" 2
told 0 >"$dir/right.told"
told 2 >"$dir/got.told"
[ -s "$dir/right.told" ] && cmp "$dir/right.told" "$dir/got.told" || { echo "FAILED: other changes are told"; failed=1; }
stops "inside" "$worker"

# ---- what nobody has taken ----
wait "$nobody"
check "nobody" 0 'no worker has taken a unit for 2[0-9] s: start .embsum worker' cat "$dir/refresh.9"
check "its time is over" 0 '"complete":false,"stopped":"time"' cat "$dir/refresh.9"
[ "$(cli 9 exists '{embsum}:work')" = 0 ] || { echo "FAILED: the queue is left when its time is over"; failed=1; }

# ---- a store that is away ----
worker 1 --max-idle 60
sleep 0.3
kill -9 "$redis"
wait "$redis" 2>/dev/null
sleep 1
start_redis
check "alone, on the new one" 0 '"complete":true' refresh 0
check "a worker waits for its store" 0 '"complete":true' refresh 1 --workers
same "a store that was away" 1
stops "it" "$worker"
check "and says so" 0 "waiting for the store" cat "$dir/worker.1"
[ "$(grep -c "waiting for the store" "$dir/worker.1")" = 1 ] || { echo "FAILED: said more than once"; failed=1; }
exit $failed
