#!/bin/sh
# `embsum eval` as people use it: exit codes, messages that name the place, predictions, ablations, models side by
# side; and, where numpy is installed, every figure and every rank against tests/golden/metrics.py, which computes them
# from what `embsum encode` wrote.
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:=build}"
embsum=$BUILD/embsum golden=tests/golden python=/usr/bin/python3
tiny=$golden/tiny
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
fail() {
    echo "FAILED: $*"
    failed=1
}

# check NAME EXPECTED-CODE PATTERN COMMAND...: run, compare the exit code, look for the pattern in what it printed.
check() {
    name=$1 want=$2 pattern=$3
    shift 3
    "$@" >"$dir/out" 2>"$dir/log"
    got=$?
    if [ "$got" != "$want" ] || { [ -n "$pattern" ] && ! cat "$dir/out" "$dir/log" | grep -q -- "$pattern"; }; then
        fail "$name: exit $got (wanted $want), pattern '$pattern', output:"
        sed 's/^/    /' "$dir/out" "$dir/log"
    fi
}
# eval_tiny BEHAVIORS OPTION...: with the tiny model
eval_tiny() {
    behaviors=$1
    shift
    "$embsum" eval --model $tiny --news $tiny/news.tsv --behaviors "$behaviors" "$@"
}
# timeless: the JSON without the time that it took
timeless() { sed 's/, "seconds": [0-9.e-]*//'; }

# ---- usage ----
check "help" 0 "usage: embsum eval" "$embsum" eval --help
check "missing option" 2 "missing: --behaviors" "$embsum" eval --model x --news y
check "no such ablation" 2 "must be none, no_cpe" eval_tiny $tiny/behaviors.tsv --ablate no_such
check "models without --compare" 2 "needs --compare" eval_tiny $tiny/behaviors.tsv other
check "--compare with nothing" 2 "needs the folders" eval_tiny $tiny/behaviors.tsv --compare
check "--compare with predictions" 2 "is for one model" eval_tiny $tiny/behaviors.tsv --predictions p --compare other
check "no such file" 1 "nowhere.tsv: No such file" eval_tiny nowhere.tsv
check "no such model" 1 "No such file" "$embsum" eval --model nowhere --news $tiny/news.tsv --behaviors $tiny/behaviors.tsv

# ---- one model ----
check "eval" 0 '^{"impressions": 20, "skipped": 0, "auc": 0\.[0-9]*, "mrr": 0\.[0-9]*, "ndcg@5": 0\.[0-9]*, ' \
    eval_tiny $tiny/behaviors.tsv --threads 1 --predictions "$dir/one.txt"
timeless <"$dir/out" >"$dir/one.json"
grep -q '"ndcg@10": 0\.[0-9]*, "auc_pooled": 0\.[0-9]*, "mrr_first": 0\.[0-9]*, "model_sha256": "[0-9a-f]\{64\}", "ablation": "none", "dtype": "float32"}$' \
    "$dir/one.json" || fail "the JSON: $(cat "$dir/one.json")"
grep -q '^impressions: 20 in' "$dir/log" || fail "no progress"
grep -q '^20 impressions of 28 contents, 11 history ids without a text left out' "$dir/log" || fail "what was read is not told"
check "three threads" 0 "" eval_tiny $tiny/behaviors.tsv --threads 3 --predictions "$dir/three.txt" --quiet
timeless <"$dir/out" | cmp - "$dir/one.json" || fail "three threads gave other figures"
cmp "$dir/one.txt" "$dir/three.txt" || fail "three threads gave other predictions"
[ -s "$dir/log" ] && fail "--quiet told something"
# Every line names its impression and ranks 1 ... number of candidates, each once.
awk -F '\t' '{ print $1, split($5, c, " ") }' $tiny/behaviors.tsv >"$dir/shape"
awk '{ list = $2; gsub(/[][]/, "", list); n = split(list, r, ","); delete seen; good = 0
       for (i = 1; i <= n; i++) if (r[i] >= 1 && r[i] <= n && !seen[r[i]]++) good++
       print $1, (good == n && NF == 2 ? n : "wrong: " $0) }' "$dir/one.txt" | cmp - "$dir/shape" || fail "prediction.txt"

check "limit" 0 '"impressions": 7,' eval_tiny $tiny/behaviors.tsv --limit 7 --predictions "$dir/seven.txt" --quiet
head -n 7 "$dir/one.txt" | cmp - "$dir/seven.txt" || fail "the first seven predictions are others"
check "no such dtype" 2 "is not float32, bfloat16 or int8" eval_tiny $tiny/behaviors.tsv --dtype float16
check "int8" 0 '"dtype": "int8"' eval_tiny $tiny/behaviors.tsv --dtype int8 --quiet
check "ablated" 0 '"ablation": "no_cpe"' eval_tiny $tiny/behaviors.tsv --ablate no_cpe --quiet
check "side by side" 0 '"model": "tests/golden/tiny"}, {.*"model": "tests/golden/tiny"}\]$' \
    eval_tiny $tiny/behaviors.tsv --compare $tiny
[ "$(grep -c '^tests/golden/tiny  *0\.' "$dir/log")" = 2 ] || fail "the table: $(cat "$dir/log")"
check "side by side with nothing" 1 "nowhere: open nowhere/" eval_tiny $tiny/behaviors.tsv --compare nowhere
[ -s "$dir/out" ] && fail "a comparison that failed printed something"

# ---- what a rounder dtype loses against float32 ----
check "--against nothing new" 2 "another dtype than --dtype" eval_tiny $tiny/behaviors.tsv --against float32
check "--against no dtype" 2 "--against: .*is not float32" eval_tiny $tiny/behaviors.tsv --dtype int8 --against float16
check "--against several models" 2 "is for one model" eval_tiny $tiny/behaviors.tsv --dtype int8 --against float32 --compare $tiny
eval_demo() {
    "$embsum" eval --model deploy/demo/model --news deploy/demo/news.tsv --behaviors deploy/demo/behaviors_valid.tsv --quiet "$@"
}
figures() { grep -o '"impressions": [^{}]*"mrr_first": [0-9.]*' | head -n "$1" | tail -n 1; }
check "demo, float32" 0 "" eval_demo
figures 1 <"$dir/out" >"$dir/float32"
# against DTYPE TAU AUC: the mean tau and the largest difference of AUC that the project allows
against() {
    check "demo, $1" 0 "" eval_demo --dtype "$1" --predictions "$dir/alone.txt"
    figures 1 <"$dir/out" >"$dir/alone"
    check "demo, $1 against float32" 0 "\"dtype\": \"$1\".*\"against\": \"float32\"" \
        eval_demo --dtype "$1" --against float32 --threads 1 --predictions "$dir/against.txt"
    timeless <"$dir/out" >"$dir/against"
    sed 's/.*"difference": /'"$1"': /' "$dir/against"
    figures 1 <"$dir/against" | cmp - "$dir/alone" || fail "$1: not the figures of $1 alone"
    figures 2 <"$dir/against" | cmp - "$dir/float32" || fail "$1: not the figures of float32 alone"
    cmp "$dir/against.txt" "$dir/alone.txt" || fail "$1: not the predictions of $1 alone"
    sed 's/.*"difference": {"auc": \([^,]*\),.*"tau": \([^,]*\),.*/\1 \2/' "$dir/against" |
        awk -v tau="$2" -v auc="$3" '{ exit !(NF == 2 && $2 >= tau && $2 < 1 && $1 <= auc && -$1 <= auc) }' ||
        fail "$1: tau below $2 or AUC off by more than $3"
    check "demo, $1, three threads" 0 "" eval_demo --dtype "$1" --against float32 --threads 3
    timeless <"$dir/out" | cmp - "$dir/against" || fail "$1: three threads gave other figures"
}
against bfloat16 0.99 0.002
against int8 0.97 0.005

# A pipe cannot be read twice, and that is said.
mkfifo "$dir/pipe"
cat $tiny/behaviors.tsv >"$dir/pipe" &
check "a pipe" 1 "a second time" eval_tiny "$dir/pipe" --quiet

# ---- rows ----
lines=$(($(wc -l <$tiny/behaviors.tsv) + 1))
known=$(head -n 1 $tiny/news.tsv | cut -f 1)
bad() { # NAME PATTERN HISTORY CANDIDATES: it is told, with its place, before anything is encoded; allowed, it is left out
    { cat $tiny/behaviors.tsv; printf '77\tU1\t\t%s\t%s\n' "$3" "$4"; } >"$dir/bad.tsv"
    echo old >"$dir/kept.txt"
    check "$1" 1 "bad.tsv:$lines: $2" eval_tiny "$dir/bad.tsv" --predictions "$dir/kept.txt"
    grep -q "contents:" "$dir/log" && fail "$1: found out too late"
    [ "$(cat "$dir/kept.txt")" = old ] || fail "$1: the old predictions are gone"
    check "$1, allowed" 0 "bad.tsv:$lines: $2" eval_tiny "$dir/bad.tsv" --max-bad 1 --threads 1
    timeless <"$dir/out" | cmp - "$dir/one.json" || fail "$1: other figures"
    [ "$(grep -c "bad.tsv:$lines:" "$dir/log")" = 1 ] || fail "$1: told more than once"
}
bad "wrong label" "column 5: candidate 2 ($known-2): the label must be 0 or 1" "" "$known-1 $known-2"
bad "no id" "column 5: candidate 1 (-1): the id is missing" "" "-1"
bad "unknown id" "column 5: candidate 1 (gone-1): the news have no such item" "" "gone-1"
bad "mixed" "column 5: candidate 2 ($known): some candidates" "" "$known-1 $known"
check "no labels" 1 ":1: column 5: candidate 1 ($known): the label is missing" sh -c "
    printf '1\tU1\t\t\t$known\n' >'$dir/test.tsv'
    '$embsum' eval --model $tiny --news $tiny/news.tsv --behaviors '$dir/test.tsv'"
: >"$dir/empty.tsv"
check "no impressions" 1 "empty.tsv: no impressions" eval_tiny "$dir/empty.tsv" --quiet
check "no room for predictions" 1 "create .*/nowhere/p" eval_tiny $tiny/behaviors.tsv --predictions "$dir/nowhere/p" --quiet
[ ! -w /dev/full ] || check "a full disk" 1 "No space left" sh -c "
    '$embsum' eval --quiet --model $tiny --news $tiny/news.tsv --behaviors $tiny/behaviors.tsv >/dev/full"

# A test set as the leaderboard gives it out: the same ranks, and no figure.
sed 's/-[01]\( \|$\)/\1/g' $tiny/behaviors.tsv >"$dir/test.tsv"
grep -q -- '-[01]\( \|$\)' "$dir/test.tsv" && fail "the labels are still there"
check "a test set" 0 '"impressions": 20, "skipped": 20, "auc": null, .*"auc_pooled": null' \
    eval_tiny "$dir/test.tsv" --predictions "$dir/test.txt" --quiet
cmp "$dir/one.txt" "$dir/test.txt" || fail "without labels the ranks are others"
sed 's/-0\( \|$\)/-1\1/g' $tiny/behaviors.tsv >"$dir/positive.tsv"
check "all positive" 0 '"skipped": 20, "auc": null' eval_tiny "$dir/positive.tsv" --quiet

# ---- more than one chunk of users: 4,400 histories; what a row gets does not depend on the others ----
awk -F '\t' 'NR == FNR { id[n++] = $1; next }
    BEGIN { OFS = "\t" }
    END { for (i = 0; i < 4400; i++)
        print i, "U" i, "", id[i % 19] " " id[int(i / 19) % 19] " " id[int(i / 361) % 19], id[i % 7] "-1 " id[7 + i % 11] "-0" }' \
    $tiny/news.tsv >"$dir/many.tsv"
tail -n 350 "$dir/many.tsv" >"$dir/last.tsv"
check "many users" 0 '"impressions": 4400' eval_tiny "$dir/many.tsv" --ablate no_lsum --predictions "$dir/many.txt" --quiet
check "the last of them" 0 '"impressions": 350' eval_tiny "$dir/last.tsv" --ablate no_lsum --predictions "$dir/last.txt" --quiet
tail -n 350 "$dir/many.txt" | cmp - "$dir/last.txt" || fail "another chunk, other ranks"

# ---- stopped: no predictions, no rest of them ----
mkdir "$dir/stopped"
"$embsum" eval --model $tiny --news $tiny/news.tsv --behaviors "$dir/many.tsv" --predictions "$dir/stopped/p" --threads 1 \
    >"$dir/out" 2>"$dir/log" &
pid=$!
for _ in $(seq 1 $((200 * ${EMBSUM_SLOW:-1}))); do grep -q '^contents' "$dir/log" && break; sleep 0.05; done
kill -TERM $pid
wait $pid
code=$?
[ "$code" = 1 ] && grep -q "stopped by a signal" "$dir/log" || fail "SIGTERM: exit $code: $(cat "$dir/log")"
[ -z "$(ls "$dir/stopped")" ] || fail "a stopped run left $(ls "$dir/stopped")"
[ -s "$dir/out" ] && fail "a stopped run printed $(cat "$dir/out")"

# ---- every figure and every rank, for the model and its ablations ----
if $python -c 'import numpy' 2>/dev/null; then
    $python $golden/metrics.py behaviors --news $tiny/news.tsv --out "$dir"
    for ablation in none no_cpe no_upe no_grouping no_lsum; do
        cp -r $tiny "$dir/$ablation"
        sed -i "s/\"ablation\": \"none\"/\"ablation\": \"$ablation\"/" "$dir/$ablation/config.json"
        check "encode $ablation" 0 "" "$embsum" encode --model "$dir/$ablation" --news $tiny/news.tsv \
            --behaviors "$dir/alone.tsv" --out "$dir/matrices" --quiet
        check "eval --ablate $ablation" 0 "\"ablation\": \"$ablation\"" \
            eval_tiny "$dir/behaviors.tsv" --ablate $ablation --predictions "$dir/p" --quiet
        cp "$dir/out" "$dir/results.json"
        check "$ablation against numpy" 0 "300 rows" $python $golden/metrics.py check --matrices "$dir/matrices" \
            --behaviors "$dir/alone.tsv" --results "$dir/results.json" --predictions "$dir/p"
        cat "$dir/out"
        check "eval of $ablation" 0 "" "$embsum" eval --model "$dir/$ablation" --news $tiny/news.tsv \
            --behaviors "$dir/behaviors.tsv" --quiet
        timeless <"$dir/results.json" >"$dir/expected"
        timeless <"$dir/out" | cmp - "$dir/expected" || fail "$ablation in the config and by --ablate differ"
    done
    # What an ablated model's file does not hold cannot be had back.
    cp -r "$dir/no_upe" "$dir/small"
    PYTHONPATH=$golden PYTHONDONTWRITEBYTECODE=1 $python -c "import sys, weights
path = sys.argv[1] + '/model.safetensors'
weights.save(path, {name: w for name, w in weights.load(path).items() if not name.startswith('embsum.user')})" "$dir/small"
    check "a model without a head" 0 '"ablation": "no_upe"' "$embsum" eval --model "$dir/small" \
        --news $tiny/news.tsv --behaviors $tiny/behaviors.tsv --quiet
    check "its head wanted back" 1 "made with the ablation no_upe and has no embsum.user" "$embsum" eval \
        --model "$dir/small" --news $tiny/news.tsv --behaviors $tiny/behaviors.tsv --quiet --ablate none
else
    echo "python3-numpy is not installed: no figure was computed a second time"
fi
exit $failed
