#!/bin/sh
# embsum train --valid: it changes nothing of the training, the log and the best model are the same however often the run
# was killed, and the best model is whole at any time.
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:=build}"
embsum=$BUILD/embsum demo=deploy/demo
dir=$(mktemp -d)
pid=''
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || :; rm -rf "$dir"' EXIT
failed=0
fail() {
    echo "FAILED: $*"
    failed=1
}
$embsum init --quiet --config $demo/model/config.json --vocab $demo/model/spiece.model --out "$dir/model" --seed 2 || exit 1
head -n 24 $demo/behaviors.tsv >"$dir/behaviors.tsv"
head -n 12 $demo/behaviors_valid.tsv >"$dir/valid.tsv"

# become OUT OPTIONS...: 12 steps of 8 examples, in place of this shell, so that a signal reaches the program itself
become() {
    out=$1
    shift
    exec "$embsum" train --model "$dir/model" --news $demo/news.tsv --behaviors "$dir/behaviors.tsv" --out "$out" \
        --summaries $demo/summaries.jsonl --epochs 20 --steps 12 --batch 8 --rate 3e-3 --seed 5 --threads 2 \
        --checkpoint-every 3 "$@"
}
train() {
    (become "$@")
}
validated() { # with validations, at steps that are checkpoints and at steps that are none
    out=$1
    shift
    train "$out" --valid "$dir/valid.tsv" --validate-every 2 --quiet "$@"
}
lines() {
    [ ! -e "$dir/$1/train.jsonl" ] && echo 0 || grep -c '"validation"' "$dir/$1/train.jsonl"
}
judge() { # the AUC of a model, with the digits of the log
    $embsum eval --quiet --model "$1" --news $demo/news.tsv --behaviors "$dir/valid.tsv" | sed 's/.*"auc": \([0-9.]*\),.*/\1/'
}

validated "$dir/whole" || fail "train --valid: exit $?"
train "$dir/plain" --quiet || fail "train: exit $?"
cmp "$dir/whole/model.safetensors" "$dir/plain/model.safetensors" || fail "validation changes the model"
sed 's/,"tokens_per_second.*//' "$dir/plain/train.jsonl" >"$dir/expected"
grep -v '"validation"' "$dir/whole/train.jsonl" | sed 's/,"tokens_per_second.*//' | cmp - "$dir/expected" ||
    fail "validation changes the log of the steps"
[ "$(lines whole)" = 6 ] || fail "$(lines whole) validations instead of 6"
[ ! -e "$dir/plain/best" ] || fail "a best model without validations"
for run in whole plain; do
    [ -s "$dir/$run/curves.svg" ] || fail "$run has no curves.svg"
    ! command -v xmllint >/dev/null || xmllint --noout "$dir/$run/curves.svg" || fail "$run/curves.svg is not well-formed"
done
grep -q ">Validation<" "$dir/whole/curves.svg" || fail "no validations in the curves"
! grep -q ">Validation<" "$dir/plain/curves.svg" || fail "validations in the curves of a run without"

# The best model is that of the highest AUC in the log, and the first of equal ones; each line says whether it was the best.
sed -n 's/.*"validation":.*"auc":\([0-9.]*\),.*"best":\(.*\)}/\1 \2/p' "$dir/whole/train.jsonl" >"$dir/aucs"
awk '{ expected = ($1 > best) ? "true" : "false"; if ($1 > best) best = $1
       if ($2 != expected) { print "line " NR ": " $0; exit 1 } }' "$dir/aucs" || fail "which was the best: $(cat "$dir/aucs")"
highest=$(cut -d ' ' -f 1 "$dir/aucs" | sort -g | tail -n 1)
[ "$(judge "$dir/whole/best")" = "$highest" ] || fail "best has AUC $(judge "$dir/whole/best"), not $highest"
[ "$(judge "$dir/whole")" = "$(tail -n 1 "$dir/aucs" | cut -d ' ' -f 1)" ] || fail "the last validation is not of the end"
echo "validation AUC: $(cut -d ' ' -f 1 "$dir/aucs" | tr '\n' ' ')"

# Killed again and again, at moments that differ: what is called best is a model each time, and the end is the same.
for round in 1 2 3 4 5 6; do
    become "$dir/killed" --valid "$dir/valid.tsv" --validate-every 2 --quiet --resume &
    pid=$!
    for _ in $(seq 1 $((400 * ${EMBSUM_SLOW:-1}))); do
        [ "$(lines killed)" -ge "$round" ] && break
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.02
    done
    sleep "0.0$((round * 7 % 10))"
    kill -9 "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    pid=''
    [ ! -e "$dir/killed/best" ] || [ -n "$(judge "$dir/killed/best")" ] || fail "killed in round $round: best is torn"
done
validated "$dir/killed" --resume || fail "resume: exit $?"
for file in model.safetensors best/model.safetensors best/config.json best/spiece.model; do
    cmp "$dir/whole/$file" "$dir/killed/$file" || fail "resumed, another $file"
done
sed 's/,"tokens_per_second.*//' "$dir/whole/train.jsonl" >"$dir/expected"
sed 's/,"tokens_per_second.*//' "$dir/killed/train.jsonl" | cmp "$dir/expected" - || fail "resumed, another train.jsonl"
cmp "$dir/whole/curves.svg" "$dir/killed/curves.svg" || fail "resumed, other curves"

# A checkpoint remembers the best: without it the first validation after the resume would be one.
become "$dir/stopped" --valid "$dir/valid.tsv" --validate-every 2 >"$dir/log" 2>&1 &
pid=$!
for _ in $(seq 1 $((400 * ${EMBSUM_SLOW:-1}))); do
    [ "$(lines stopped)" -ge 2 ] && break
    sleep 0.02
done
kill -TERM "$pid"
wait "$pid"
code=$?
pid=''
[ "$code" = 1 ] && grep -q "stopped by a signal after step" "$dir/log" || fail "SIGTERM: exit $code: $(cat "$dir/log")"
# what a process wrote after its last checkpoint is cut off
echo '{"step":99,"validation":{"auc":1,"mrr":1},"best":true}' >>"$dir/stopped/train.jsonl"
printf '{"step":100,"epo' >>"$dir/stopped/train.jsonl"
validated "$dir/stopped" --resume || fail "resume after SIGTERM: exit $?"
sed 's/,"tokens_per_second.*//' "$dir/stopped/train.jsonl" | cmp "$dir/expected" - || fail "stopped, another train.jsonl"
cmp "$dir/whole/best/model.safetensors" "$dir/stopped/best/model.safetensors" || fail "stopped, another best model"

# Another choice is another run; a run from the start keeps no best model of an older one, nor the rest of a torn one.
validated "$dir/stopped" --resume --valid-limit 5 2>"$dir/log" && fail "validations on other impressions were resumed"
grep -q "of another run" "$dir/log" || fail "other impressions: $(cat "$dir/log")"
mkdir "$dir/stopped/best.part" && touch "$dir/stopped/best.part/model.safetensors.unfinished-abcdef"
train "$dir/stopped" --quiet --steps 1 2>/dev/null && fail "--steps twice"
"$embsum" train --quiet --model "$dir/model" --news $demo/news.tsv --behaviors "$dir/behaviors.tsv" --out "$dir/stopped" \
    --steps 1 --batch 8 || fail "a run from the start"
[ ! -e "$dir/stopped/best" ] && [ ! -e "$dir/stopped/best.part" ] || fail "a best model of another run is left"

# ten times a run unless told otherwise; a bad file is told before the first step
"$embsum" train --model "$dir/model" --news $demo/news.tsv --behaviors "$dir/behaviors.tsv" --out "$dir/ten" --steps 20 \
    --epochs 20 --batch 2 --valid "$dir/valid.tsv" --valid-limit 3 2>"$dir/log" || fail "ten: $(cat "$dir/log")"
[ "$(lines ten)" = 10 ] && grep -q '"validation":{"impressions":3,' "$dir/ten/train.jsonl" || fail "$(lines ten) of ten"
[ "$(grep -c 'validation AUC' "$dir/log")" = 10 ] || fail "validations are not told: $(cat "$dir/log")"
train "$dir/x" --quiet --valid "$dir/nowhere.tsv" 2>"$dir/log" && fail "validation on nothing"
grep -q "nowhere.tsv: No such file" "$dir/log" || fail "no such file: $(cat "$dir/log")"
printf '1\tU1\t\tN1001\tN1002-0 N1003-0\n' >"$dir/none.tsv"
train "$dir/y" --quiet --valid "$dir/none.tsv" 2>"$dir/log" && fail "validation on nothing that can be judged"
grep -q "none.tsv has no impression" "$dir/log" || fail "nothing to judge: $(cat "$dir/log")"
[ ! -e "$dir/x/train.jsonl" ] && [ ! -e "$dir/y/train.jsonl" ] || fail "it was trained before that was told"
train "$dir/x" --quiet --validate-every 2 2>"$dir/log"
[ $? = 2 ] && grep -q "need --valid" "$dir/log" || fail "--validate-every alone: $(cat "$dir/log")"
exit "$failed"
