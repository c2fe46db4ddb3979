#!/bin/sh
# embsum train: the loss falls, a run that was killed or stopped goes on bit for bit, and what is not the same run is
# refused. On a few impressions of the demo.
set -u
: "${BUILD:=build}"
embsum=$BUILD/embsum demo=deploy/demo
dir=$(mktemp -d)
pid=''
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || :; rm -rf "$dir"' EXIT
failed=0
fail() {
    echo "FAILED: $1"
    failed=1
}

$embsum init --quiet --config $demo/model/config.json --vocab $demo/model/spiece.model --out "$dir/model" --seed 2 || exit 1
head -n 24 $demo/behaviors.tsv >"$dir/behaviors.tsv"

# become OUT OPTIONS...: 12 steps of 8 examples, in place of this shell, so that a signal reaches the program itself
become() {
    out=$1
    shift
    exec "$embsum" train --model "$dir/model" --news $demo/news.tsv --behaviors "$dir/behaviors.tsv" \
        --summaries $demo/summaries.jsonl --out "$out" --epochs 20 --steps 12 --batch 8 --rate 2e-3 --seed 5 --threads 2 \
        --quiet --checkpoint-every 3 "$@"
}
train() {
    (become "$@")
}
# same NAME: the run in $dir/NAME is the undisturbed one
same() {
    cmp "$dir/whole/model.safetensors" "$dir/$1/model.safetensors" || fail "$1: another model"
    sed 's/,"tokens_per_second.*//' "$dir/whole/train.jsonl" >"$dir/expected"
    sed 's/,"tokens_per_second.*//' "$dir/$1/train.jsonl" | cmp "$dir/expected" - || fail "$1: another train.jsonl"
}
steps() {
    [ ! -e "$dir/$1/train.jsonl" ] && echo 0 || wc -l <"$dir/$1/train.jsonl"
}

train "$dir/whole" || fail "train: exit $?"
[ "$(steps whole)" = 12 ] || fail "$(steps whole) steps instead of 12"
sed 's/.*"loss":\([0-9.e+-]*\).*/\1/' "$dir/whole/train.jsonl" |
    awk 'NR <= 3 { first += $1 } NR > 9 { last += $1 } END { print "loss", first / 3, "->", last / 3; exit !(last < 0.8 * first) }' ||
    fail "the loss does not fall"

# killed at some moment, then resumed; again and again until it is done
become "$dir/killed" --resume &
pid=$!
for _ in $(seq 1 $((400 * ${EMBSUM_SLOW:-1}))); do
    [ "$(steps killed)" -ge 5 ] && break
    sleep 0.05
done
kill -9 "$pid" 2>/dev/null
wait "$pid" 2>/dev/null
pid=''
[ "$(steps killed)" -lt 12 ] || fail "it was done before it was killed: the test shows nothing"
train "$dir/killed" --resume || fail "resume: exit $?"
same killed

# asked to stop: a checkpoint at the step in hand
become "$dir/stopped" >"$dir/log" 2>&1 &
pid=$!
for _ in $(seq 1 $((400 * ${EMBSUM_SLOW:-1}))); do
    [ "$(steps stopped)" -ge 4 ] && break
    sleep 0.05
done
kill -TERM "$pid"
wait "$pid"
code=$?
pid=''
[ "$code" = 1 ] && grep -q "stopped by a signal after step" "$dir/log" || fail "SIGTERM: exit $code, $(cat "$dir/log")"
train "$dir/stopped" --resume || fail "resume after SIGTERM: exit $?"
same stopped

# the finished run has nothing left to do; another run is not taken for it
train "$dir/stopped" --resume || fail "resume of a finished run: exit $?"
same stopped
train "$dir/stopped" --resume --lambda 0.1 >"$dir/log" 2>&1 && fail "other settings were resumed"
grep -q "of another run" "$dir/log" || fail "other settings: $(cat "$dir/log")"
head -c 100000 "$dir/stopped/train.safetensors" >"$dir/cut" && cp "$dir/cut" "$dir/stopped/train.safetensors"
train "$dir/stopped" --resume >"$dir/log" 2>&1 && fail "a damaged checkpoint was resumed"
grep -q "train.safetensors" "$dir/log" || fail "damaged checkpoint: $(cat "$dir/log")"

# the trained model is a model
$embsum encode --quiet --model "$dir/whole" --news $demo/news.tsv --behaviors "$dir/behaviors.tsv" --out "$dir/out" ||
    fail "encode with the trained model"

# what cannot be trained on, by name
printf '1\tU1\t\tN1001\tN1002-0 N1003-0\n' >"$dir/none.tsv"
"$embsum" train --quiet --model "$dir/model" --news $demo/news.tsv --behaviors "$dir/none.tsv" --out "$dir/x" 2>"$dir/log" &&
    fail "impressions without positives"
grep -q "none.tsv has no impression" "$dir/log" || fail "no positives: $(cat "$dir/log")"
printf '1\tU1\t\tN1001\tN1002-1 N1003-2\n' >"$dir/label.tsv"
"$embsum" train --quiet --model "$dir/model" --news $demo/news.tsv --behaviors "$dir/label.tsv" --out "$dir/x" 2>"$dir/log" &&
    fail "a label that is none"
grep -q "label.tsv:1: " "$dir/log" || fail "label: $(cat "$dir/log")"
printf '{"user": "U1", "summary": 3}\n' >"$dir/s.jsonl"
train "$dir/x" --summaries "$dir/s.jsonl" 2>"$dir/log" && fail "a summary that is none"
for option in "--rate x" "--dropout 1" "--batch 0"; do
    # shellcheck disable=SC2086 # an option and its value
    "$embsum" train --model a --news b --behaviors c --out d $option 2>"$dir/log"
    [ $? = 2 ] || fail "$option: not refused as usage"
done
exit "$failed"
