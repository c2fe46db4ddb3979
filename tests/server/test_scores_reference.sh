#!/bin/sh
# The whole line, texts to ranked answer: embsum init, embsum refresh into an embedded store and into a Redis, embsumd on
# each, POST /rank for every user with 50 contents. Scores and order against float64, from the same float32
# matrices (1e-5) and from the texts on (2e-5); see tests/golden/check_scores.py.
set -eu
cd "$(dirname "$0")/../.."
: "${BUILD:=build}"
golden=tests/golden python=/usr/bin/python3

for need in spm_encode redis-server; do
    command -v $need >/dev/null || { echo "SKIPPED: $need is not installed"; exit 77; }
done
$python -c 'import numpy, torch' 2>/dev/null || { echo "SKIPPED: python3-torch is not installed"; exit 77; }

work=$(mktemp -d)
pids=
finish() {
    for pid in $pids; do
        kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
    done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

# until_found FILE PATTERN PID: wait for a line, at most 30 s (times EMBSUM_SLOW), while the process lives
until_found() {
    tries=$((300 * ${EMBSUM_SLOW:-1}))
    until grep -q "$2" "$1" 2>/dev/null; do
        tries=$((tries - 1))
        if [ $tries = 0 ] || ! kill -0 "$3" 2>/dev/null; then
            echo "no '$2' in $(basename "$1"):"
            cat "$1"
            exit 1
        fi
        sleep 0.1
    done
}

$python $golden/make_texts.py --out "$work/texts"
$python $golden/make_configs.py --out "$work/configs"
texts="--news $work/texts/news.tsv --behaviors $work/texts/behaviors.tsv"
"$BUILD/embsum" init --quiet --config "$work/configs/base/config.json" --vocab deploy/demo/model/spiece.model --seed 11 \
    --out "$work/model"
# shellcheck disable=SC2086 # two options and their values
"$BUILD/embsum" encode --quiet --model "$work/model" $texts --out "$work/matrices"
# shellcheck disable=SC2086
$python $golden/reference.py encode --model "$work/model" $texts --out "$work/reference"

redis-server --port 0 --unixsocket "$work/redis.sock" --save '' --appendonly no --dir "$work" >"$work/redis.log" 2>&1 &
pids=$!
until_found "$work/redis.log" 'Ready to accept connections\|ready to accept connections' $!

for store in "lmdb:$work/store" "redis+unix:$work/redis.sock"; do
    # shellcheck disable=SC2086
    "$BUILD/embsum" refresh --quiet --model "$work/model" $texts --store "$store" >"$work/refresh.out"
    log=$work/embsumd-${store%%:*}.log
    "$BUILD/embsumd" --store "$store" --listen 127.0.0.1:0 2>"$log" &
    daemon=$!
    pids="$pids $daemon"
    until_found "$log" '"msg": *"listening"' $daemon
    address=$(sed -n 's/.*"msg": *"listening".*"address": *"\([^"]*\)".*/\1/p' "$log")
    echo "$store"
    blobs=
    [ "${store%%:*}" = lmdb ] || blobs="--redis $work/redis.sock"
    # shellcheck disable=SC2086
    $python $golden/check_scores.py --address "$address" --matrices "$work/matrices" --reference "$work/reference" $blobs
    kill -TERM $daemon
    wait $daemon || { echo "embsumd ended with $?"; exit 1; }
done
