#!/bin/sh
# embsum study: every variant with every seed, each as `embsum train` and `embsum eval` alone would do it; what is done is not
# done again; a study that was killed ends as if it had not been. On a few impressions of the demo.
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
head -n 24 $demo/behaviors.tsv >"$dir/behaviors.tsv"
head -n 30 $demo/behaviors_valid.tsv >"$dir/valid.tsv"
settings="--batch 8 --rate 2e-3 --threads 2 --quiet --checkpoint-every 2"
become() {
    out=$1
    shift
    # shellcheck disable=SC2086 # the settings are words
    exec "$embsum" study --config $demo/model/config.json --vocab $demo/model/spiece.model --news $demo/news.tsv \
        --behaviors "$dir/behaviors.tsv" --valid "$dir/valid.tsv" --summaries $demo/summaries.jsonl --out "$out" \
        --seeds 1,2 --ablations no_upe,no_lsum --m 4 --session-size 2,4 $settings "$@"
}
study() {
    (become "$@")
}

study "$dir/whole" --steps 6 >"$dir/whole.txt" || fail "study: exit $?"
cat "$dir/whole.txt"
# the base, no_upe, no_lsum, m 4, session size 2: five variants; 4 is the base's own session size
[ "$(find "$dir/whole/runs" -name result.json | wc -l)" = 10 ] || fail "not ten results"
[ -z "$(find "$dir/whole" -name train.safetensors)" ] || fail "checkpoints of finished runs are left"

# the numbers are those of the single commands
"$embsum" init --quiet --config $demo/model/config.json --vocab $demo/model/spiece.model --seed 2 --out "$dir/start" || fail "init"
# shellcheck disable=SC2086
"$embsum" train --model "$dir/start" --news $demo/news.tsv --behaviors "$dir/behaviors.tsv" --summaries $demo/summaries.jsonl \
    --out "$dir/alone" --seed 2 --steps 6 $settings || fail "train: exit $?"
cmp "$dir/alone/model.safetensors" "$dir/whole/runs/base-s2/model.safetensors" || fail "base-s2 is another model than train's"
"$embsum" eval --quiet --model "$dir/alone" --news $demo/news.tsv --behaviors "$dir/valid.tsv" >"$dir/alone.json" || fail "eval"
python3 - "$dir/whole" "$dir/alone.json" "$dir/whole.txt" <<'END' || fail "the report is wrong"
import json, sys, xml.dom.minidom
study = json.load(open(sys.argv[1] + "/study.json"))
alone = json.load(open(sys.argv[2]))
text = open(sys.argv[3]).read()
variants = {v["variant"]: v for v in study["variants"]}
assert set(variants) == {"base", "no_upe", "no_lsum", "m4", "session_size2"}, set(variants)
run = next(r for r in variants["base"]["runs"] if r["seed"] == 2)
for name in ("auc", "mrr", "ndcg@5", "ndcg@10", "auc_pooled", "mrr_first"):
    assert abs(run["eval"][name] - alone[name]) < 1e-9, name
for variant in variants.values():
    values = [r["eval"]["auc"] for r in variant["runs"]]
    figure = variant["auc"]
    assert abs(figure["mean"] - sum(values) / 2) < 1e-9 and figure["low"] == min(values) and figure["high"] == max(values)
    assert "%.4f (%.4f to %.4f)" % (figure["mean"], figure["low"], figure["high"]) in text, variant["variant"]
assert study["axes"]["session_size"] == [[2, "session_size2"], [4, "base"]]
assert "Ablations" in xml.dom.minidom.parse(sys.argv[1] + "/study.svg").documentElement.toxml()
END

# again: nothing is done again
find "$dir/whole/runs" -type f -exec ls -l --full-time {} + | sort >"$dir/before"
study "$dir/whole" --steps 6 | cmp "$dir/whole.txt" - || fail "another table when it is asked again"
find "$dir/whole/runs" -type f -exec ls -l --full-time {} + | sort | cmp "$dir/before" - || fail "a finished run was touched"

# killed in the third run, then resumed
become "$dir/killed" --steps 6 >/dev/null &
pid=$!
for _ in $(seq 1 800); do
    [ "$(find "$dir/killed/runs" -name result.json 2>/dev/null | wc -l)" -ge 2 ] && break
    sleep 0.05
done
kill -9 "$pid" 2>/dev/null
wait "$pid" 2>/dev/null
pid=''
done_before=$(find "$dir/killed/runs" -name result.json | wc -l)
[ "$done_before" -lt 10 ] || fail "it was done before it was killed"
study "$dir/killed" --steps 6 | cmp "$dir/whole.txt" - || fail "another table after kill -9 and resume"
cmp "$dir/whole/study.json" "$dir/killed/study.json" || fail "another study.json after kill -9 and resume"

# other settings are another study
study "$dir/whole" --steps 7 >/dev/null 2>"$dir/message" && fail "other settings in the same folder are accepted"
grep -q "another study" "$dir/message" || fail "the message does not say so: $(cat "$dir/message")"

# lists that are none
for wrong in "--m 0" "--m 4,,8" "--n 4,x" "--seeds 1,1" "--ablations no_such"; do
    # shellcheck disable=SC2086
    "$embsum" study --config $demo/model/config.json --vocab $demo/model/spiece.model --news $demo/news.tsv \
        --behaviors "$dir/behaviors.tsv" --valid "$dir/valid.tsv" --out "$dir/none" --steps 1 --quiet $wrong 2>"$dir/message" &&
        fail "$wrong is accepted"
    grep -qe "${wrong%% *}" "$dir/message" || fail "the message for $wrong does not name it: $(cat "$dir/message")"
done
[ "$failed" = 0 ] && echo "a study is its runs"
exit "$failed"
