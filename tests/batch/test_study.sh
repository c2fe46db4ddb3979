#!/bin/sh
# embsum study on a few impressions of the demo: killed and stopped it goes on and does nothing twice, its figures are those
# of embsum train and embsum eval, and what it says about the spread follows from them.
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:=build}"
embsum=$BUILD/embsum demo=deploy/demo python=/usr/bin/python3
dir=$(mktemp -d)
pid=''
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || :; rm -rf "$dir"' EXIT
failed=0
fail() {
    echo "FAILED: $*"
    failed=1
}
head -n 16 $demo/behaviors.tsv >"$dir/behaviors.tsv"
head -n 20 $demo/behaviors_valid.tsv >"$dir/valid.tsv"

settings="--news $demo/news.tsv --behaviors $dir/behaviors.tsv --summaries $demo/summaries.jsonl --steps 4 --batch 4
    --rate 2e-3 --threads 2 --checkpoint-every 1"
# become OUT OPTIONS...: a small study, in place of this shell, so that a signal reaches the program itself
become() {
    out=$1
    shift
    # shellcheck disable=SC2086 # options and their values
    exec "$embsum" study --config $demo/model/config.json --vocab $demo/model/spiece.model --valid "$dir/valid.tsv" $settings \
        --out "$out" "$@"
}
study() {
    (become "$@")
}
grid="--ablations no_cpe,no_lsum --m 4,16 --session-size 2"
runs() {
    find "$dir/$1/runs" -name result.json 2>/dev/null | wc -l
}
steps() {
    [ ! -e "$1/train.jsonl" ] && echo 0 || wc -l <"$1/train.jsonl"
}

# ---- usage ----
check() { # NAME CODE PATTERN COMMAND...
    name=$1 want=$2 pattern=$3
    shift 3
    "$@" >"$dir/out" 2>"$dir/log"
    got=$?
    [ "$got" = "$want" ] && cat "$dir/out" "$dir/log" | grep -q -- "$pattern" ||
        fail "$name: exit $got (wanted $want): $(cat "$dir/out" "$dir/log")"
}
check "help" 0 "usage: embsum study" "$embsum" study --help
check "no axis" 2 "at least one of" study "$dir/x"
check "no model" 2 "needs --config and --vocab" "$embsum" study --news a --behaviors b --valid c --out d --m 4
check "a number" 1 "'4x' is no integer" study "$dir/x" --m 4x
check "an empty element" 1 "'?' is no integer" study "$dir/x" --m 4,
check "an ablation" 1 "is no ablation" study "$dir/x" --ablations no_such
check "seeds" 1 "1 comes twice" study "$dir/x" --m 4 --seeds 1,1
check "a session" 1 "session_size61: .*max_items" study "$dir/x" --session-size 61
[ ! -e "$dir/x" ] || fail "a study that was refused left a folder"

# ---- an undisturbed one ----
# shellcheck disable=SC2086 # options and their values
study "$dir/whole" $grid >"$dir/table" 2>"$dir/log" || fail "study: exit $?: $(cat "$dir/log")"
[ "$(runs whole)" = 10 ] || fail "$(runs whole) runs instead of 5 variants at 2 seeds"
grep -q '^without CPE  *2  0\.' "$dir/table" && grep -q '^m 4  *2  0\.' "$dir/table" &&
    grep -q '^session_size 2  *2  0\.' "$dir/table" || fail "the table: $(cat "$dir/table")"
[ "$(grep -c 'the base' "$dir/table")" = 4 ] || fail "the base is not in each table: $(cat "$dir/table")"
grep -q 'base-s1: AUC .*1 of 10 runs done' "$dir/log" || fail "no progress: $(cat "$dir/log")"
[ -z "$(find "$dir/whole" -name train.safetensors)" ] || fail "checkpoints of finished runs are left"

# Nothing is done twice, and the table is the same.
# shellcheck disable=SC2086
study "$dir/whole" $grid >"$dir/again" 2>"$dir/log" || fail "again: exit $?"
grep -q "10 are done already" "$dir/log" && ! grep -q "steps:\|run 1/" "$dir/log" || fail "again: $(cat "$dir/log")"
cmp "$dir/table" "$dir/again" || fail "the second time, another table"
# Another study is not mixed in; before anything is trained.
# shellcheck disable=SC2086
check "another rate" 1 "is of another study" study "$dir/whole" $grid --lambda 0.1
cp "$dir/valid.tsv" "$dir/kept.tsv"
sed -n 21p $demo/behaviors_valid.tsv >>"$dir/valid.tsv"
# shellcheck disable=SC2086
check "other data" 1 "is of another study" study "$dir/whole" $grid
mv "$dir/kept.tsv" "$dir/valid.tsv"

# ---- killed, stopped, resumed ----
# shellcheck disable=SC2086
become "$dir/broken" $grid --quiet >/dev/null 2>&1 &
pid=$!
for _ in $(seq 1 $((600 * ${EMBSUM_SLOW:-1}))); do # in the middle of the third run
    [ "$(runs broken)" -ge 2 ] && [ "$(steps "$dir/broken/runs/no_lsum-s1")" -ge 2 ] && break
    sleep 0.02
done
kill -9 "$pid" 2>/dev/null
wait "$pid" 2>/dev/null
pid=''
done_before=$(runs broken)
[ "$done_before" -ge 2 ] && [ "$done_before" -lt 10 ] || fail "killed with $done_before runs done: the test shows nothing"
touch "$dir/mark"
# shellcheck disable=SC2086
become "$dir/broken" $grid >/dev/null 2>"$dir/log" &
pid=$!
for _ in $(seq 1 $((600 * ${EMBSUM_SLOW:-1}))); do
    [ "$(runs broken)" -gt "$done_before" ] && break
    sleep 0.02
done
# While one is at work, no second one is.
# shellcheck disable=SC2086
check "two at once" 3 "another process is at work" study "$dir/broken" $grid
kill -TERM "$pid"
wait "$pid"
code=$?
pid=''
[ "$code" = 1 ] && grep -q "stopped by a signal in .* runs done; the same command goes on" "$dir/log" ||
    fail "SIGTERM: exit $code: $(cat "$dir/log")"
# shellcheck disable=SC2086
study "$dir/broken" $grid >"$dir/resumed" 2>"$dir/log" || fail "resume: exit $?: $(cat "$dir/log")"
cmp "$dir/table" "$dir/resumed" || fail "resumed, another table"
for run in "$dir"/whole/runs/*; do
    cmp "$run/model.safetensors" "$dir/broken/runs/${run##*/}/model.safetensors" || fail "${run##*/}: another model"
    cmp "$run/result.json" "$dir/broken/runs/${run##*/}/result.json" || fail "${run##*/}: another result"
done
[ "$(find "$dir/broken" -name result.json ! -newer "$dir/mark" | wc -l)" = "$done_before" ] || fail "runs were done twice"

# ---- the same by hand ----
sed 's/"m": 16/"m": 4/' $demo/model/config.json >"$dir/m4.json"
$embsum init --quiet --config "$dir/m4.json" --vocab $demo/model/spiece.model --out "$dir/start" --seed 2
# shellcheck disable=SC2086
$embsum train --quiet --model "$dir/start" $settings --seed 2 --out "$dir/hand" || fail "train by hand"
cmp "$dir/hand/model.safetensors" "$dir/whole/runs/m4-s2/model.safetensors" || fail "by hand it is another model"
$embsum eval --quiet --model "$dir/hand" --news $demo/news.tsv --behaviors "$dir/valid.tsv" >"$dir/hand.json"
# from a start model: the same weights at each seed, and what does not fit it is told before anything is trained
# shellcheck disable=SC2086
check "a start that does not fit" 1 "m4 cannot start from .*embsum.user.codes" \
    "$embsum" study --model "$dir/whole/runs/base-s1" --valid "$dir/valid.tsv" $settings --out "$dir/from" --m 4
# shellcheck disable=SC2086
check "a start that fits" 0 "without grouping  *1  0\." \
    "$embsum" study --model "$dir/whole/runs/base-s1" --valid "$dir/valid.tsv" $settings --out "$dir/fits" \
    --ablations no_grouping --seeds 1 --validate-every 2
grep -c validation "$dir/fits/runs/base-s1/train.jsonl" | grep -qx 2 || fail "validations of a study's run"

# ---- the files ----
if $python -c '' 2>/dev/null; then
    $python - "$dir/whole" "$dir/hand.json" <<'END' || fail "the figures"
import json, sys, xml.dom.minidom as xml, pathlib
whole = pathlib.Path(sys.argv[1])
study = json.loads((whole / "study.json").read_text())
hand = json.load(open(sys.argv[2]))
runs = {run["run"]: run for run in study["runs"]}
assert len(runs) == study["planned"] == 10, runs.keys()
for name in ("auc", "mrr", "ndcg@5", "ndcg@10", "auc_pooled", "mrr_first"):
    assert runs["m4-s2"]["eval"][name] == hand[name], (name, runs["m4-s2"], hand)
for name, run in runs.items():
    assert json.loads((whole / "runs" / name / "result.json").read_text())["eval"] == run["eval"]
    xml.parse(str(whole / "runs" / name / "curves.svg"))
assert runs["no_lsum-s1"]["parameters"] < runs["base-s1"]["parameters"]
assert list(study["axes"]) == ["ablation", "m", "session_size"]
assert [v["value"] for v in study["axes"]["m"]] == [4, 16] and study["axes"]["m"][1]["variant"] == "base"
def of(variant, name):
    return [runs["%s-s%d" % (variant, seed)]["eval"][name] for seed in (1, 2)]
for values in study["axes"].values():
    for value in values:
        for name in ("auc", "mrr", "ndcg@10"):
            f, mine, base = value[name], of(value["variant"], name), of("base", name)
            assert f["runs"] == 2 and f["min"] == min(mine) and f["max"] == max(mine)
            assert abs(f["mean"] - sum(mine) / 2) < 1e-11
            if value["variant"] != "base":
                differences = [a - b for a, b in zip(mine, base)]
                assert abs(f["difference"] - sum(differences) / 2) < 1e-11
                assert abs(f["difference_min"] - min(differences)) < 1e-11
                beyond = "lower" if max(mine) < min(base) else "higher" if min(mine) > max(base) else "no"
                assert f["beyond_spread"] == beyond, (value, mine, base)
svg = xml.parse(str(whole / "study.svg"))
assert len(svg.getElementsByTagName("g")) == 3
END
else
    echo "python3 is not installed: no figure was computed a second time"
fi
exit "$failed"
