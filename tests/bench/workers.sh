#!/bin/sh
# A refresh by two workers, one thread each on a core of its own, beside one of one thread: make bench-workers.
#
#     [ROUNDS=3] [USERS=288] sh tests/bench/workers.sh
#
# A model of T5-small's size with random weights reads the demo's texts; its 96 users are taken in turn until there are USERS.
# The two take turns, and the median of the ratios counts. The reading of the inputs, the same in both, is left out:
# "seconds" of the refresh's report. Where other programs have the cores, too, the clock says little: processor seconds
# follow, of one thread, of each worker and of the refresh beside them, and the ratio that they allow.
set -eu
cd "$(dirname "$0")/../.."
: "${BUILD:=build}" "${ROUNDS:=3}" "${USERS:=288}"
dir=$(mktemp -d)
pids=
end() {
    for pid in $pids; do kill -9 "$pid" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap end EXIT
sed 's/"num_decoder_layers": 1/"num_decoder_layers": 6/' tests/bench/encoder.json >"$dir/config.json"
"$BUILD/embsum" init --config "$dir/config.json" --vocab deploy/demo/model/spiece.model --out "$dir/model" --quiet
for i in 0 1 2 3 4 5 6 7 8 9; do
    awk -F '\t' -v OFS='\t' -v i="$i" '{ $2 = $2 "-" i; print }' deploy/demo/behaviors.tsv
done | awk -F '\t' -v most="$USERS" '!($2 in seen) && count < most { seen[$2] = 1; count++ } $2 in seen' >"$dir/behaviors.tsv"
redis-server --port 0 --unixsocket "$dir/redis.sock" --save '' --appendonly no --dir "$dir" >/dev/null &
pids=$!
until redis-cli -s "$dir/redis.sock" ping >/dev/null 2>&1; do sleep 0.05; done

url="redis+unix:$dir/redis.sock?db="
refresh() { # WHERE COMMAND...: $seconds by the clock, $processor seconds
    where=$1
    shift
    times >"$dir/before"
    "$@" refresh --model "$dir/model" --news deploy/demo/news.tsv --behaviors "$dir/behaviors.tsv" --store "$url$where" \
        --quiet --full --keep 0 $options >"$dir/report"
    times >"$dir/after"
    seconds=$(sed 's/.*"seconds":\([0-9.]*\).*/\1/' "$dir/report")
    processor=$(cat "$dir/before" "$dir/after" | awk '
        NR % 2 == 0 { gsub("s", ""); split($1, u, "m"); split($2, s, "m"); sum[NR] = 60 * (u[1] + s[1]) + u[2] + s[2] }
        END { print sum[4] - sum[2] }')
}
spent() { # PID: processor seconds of a worker so far
    awk -v ticks="$(getconf CLK_TCK)" '{ print ($14 + $15) / ticks }' "/proc/$1/stat"
}
for core in 0 1; do
    taskset -c $core "$BUILD/embsum" worker --model "$dir/model" --store "${url}1" --threads 1 --quiet >/dev/null &
    pids="$! $pids"
done
for i in $(seq "$ROUNDS"); do
    options="--threads 1"
    refresh 0 taskset -c $((i % 2)) "$BUILD/embsum"
    alone=$seconds alone_processor=$processor workers=
    for pid in ${pids% *}; do workers="$workers $(spent "$pid")"; done
    options=--workers
    refresh 1 "$BUILD/embsum"
    for pid in ${pids% *}; do workers="$workers $(spent "$pid")"; done
    echo "$alone $seconds $alone_processor $processor $workers" | tee -a "$dir/figures" | awk '{
        a = $7 - $5; b = $8 - $6
        printf "%.1f s alone, %.1f s by two: %.2f x; processor: %.1f s alone, %.1f + %.1f s by two and %.1f s: %.2f x\n",
            $1, $2, $1 / $2, $3, a, b, $4, $3 / (a > b ? a : b)
    }'
done
awk '{ print $1 / $2 }' "$dir/figures" | sort -n | awk '{ r[NR] = $1 } END { printf "median %.2f x\n", r[int((NR + 1) / 2)] }'
