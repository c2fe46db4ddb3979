#!/bin/sh
# embsum train --valid: the log tells each validation, OUT/best is the best of them, looking changes nothing of the training,
# and a run that was killed goes on with the same best model and the same log. On a few impressions of the demo.
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
head -n 30 $demo/behaviors_valid.tsv >"$dir/valid.tsv"
become() {
    out=$1
    shift
    exec "$embsum" train --model "$dir/model" --news $demo/news.tsv --behaviors "$dir/behaviors.tsv" --out "$out" \
        --steps 10 --batch 8 --rate 2e-3 --seed 5 --threads 2 --quiet --checkpoint-every 3 "$@"
}
train() {
    (become "$@")
}
plain() {
    sed 's/,"tokens_per_second.*//; s/,"seconds.*//' "$1/train.jsonl"
}

train "$dir/blind" || fail "without --valid: exit $?"
train "$dir/seen" --valid "$dir/valid.tsv" --validate-every 2 || fail "with --valid: exit $?"
cmp "$dir/blind/model.safetensors" "$dir/seen/model.safetensors" || fail "validating changes the training"
[ ! -e "$dir/blind/best" ] || fail "a best model without a validation"

# best is the largest of the log, and the model of that step
grep '"validation"' "$dir/seen/train.jsonl" >"$dir/validations"
[ "$(wc -l <"$dir/validations")" = 5 ] || fail "$(wc -l <"$dir/validations") validations instead of 5"
largest=$(sed 's/.*"auc":\([0-9.]*\).*/\1/' "$dir/validations" | sort -g | tail -n 1)
kept=$("$embsum" eval --quiet --model "$dir/seen/best" --news $demo/news.tsv --behaviors "$dir/valid.tsv" |
    sed 's/.*"auc": \([0-9.]*\),.*/\1/')
echo "largest AUC of the log $largest, of the model kept $kept"
awk -v a="$largest" -v b="$kept" 'BEGIN { exit !(a - b < 1e-9 && b - a < 1e-9) }' || fail "best is not the best"
python3 - "$dir/seen/curves.svg" <<'END' || fail "curves.svg is not well-formed, or lacks a curve"
import sys, xml.dom.minidom
svg = xml.dom.minidom.parse(sys.argv[1])
text = svg.documentElement.toxml()
sys.exit(not all(word in text for word in ("L_NCE", "AUC", "MRR")))
END

# killed behind a validation, resumed
become "$dir/killed" --valid "$dir/valid.tsv" --validate-every 2 --resume &
pid=$!
for _ in $(seq 1 400); do
    [ "$(grep -c validation "$dir/killed/train.jsonl" 2>/dev/null)" -ge 2 ] 2>/dev/null && break
    sleep 0.05
done
kill -9 "$pid" 2>/dev/null
wait "$pid" 2>/dev/null
pid=''
[ "$(grep -c validation "$dir/killed/train.jsonl")" -lt 5 ] || fail "it was done before it was killed"
train "$dir/killed" --valid "$dir/valid.tsv" --validate-every 2 --resume || fail "resume: exit $?"
plain "$dir/seen" >"$dir/expected"
plain "$dir/killed" | cmp "$dir/expected" - || fail "another log after a resume"
cmp "$dir/seen/best/model.safetensors" "$dir/killed/best/model.safetensors" || fail "another best model"
[ -z "$(find "$dir/killed" -name '*.part' -o -name '*unfinished*')" ] || fail "something unfinished is left"

# the options that make no sense, and a file that is not there
train "$dir/never" --validate-every 2 2>"$dir/message" && fail "--validate-every without --valid is accepted"
train "$dir/never" --valid "$dir/nothing" 2>"$dir/message" && fail "a missing file is accepted"
grep -q "$dir/nothing" "$dir/message" || fail "the message does not name the file"
[ "$failed" = 0 ] && echo "validation keeps the best"
exit "$failed"
