#!/bin/sh
# refresh --explain keeps what the codes look at: the heaviest of PyTorch's weights (tests/golden/tiny), under the names of
# items and of SentencePiece's pieces; for a generation that is there, too; right as histories and texts change.
set -u
: "${BUILD:=build}"
embsum=$BUILD/embsum
dump=$BUILD/tests/trust/dump
tiny=tests/golden/tiny
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
cp $tiny/news.tsv $tiny/behaviors.tsv "$dir"
store=lmdb:$dir/store

refresh() { $embsum refresh --model $tiny --news "$dir/news.tsv" --behaviors "$dir/behaviors.tsv" --store "$store" --min-coverage 0 "$@"; }
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

check "with workers" 2 "explain goes without --workers" refresh --explain --workers
check "without" 0 '"users":15,"contents":30,"encoded":{"users":15,"contents":30,' refresh
check "has none" 0 " 0 explanations, .*all good" $embsum generations verify --store "$store"
$dump "$store" | grep '^[ucst] ' | cut -d ' ' -f 1,2,4- >"$dir/plain" # without what they were computed from
check "with" 0 '"state":"live","users":15,"contents":30,"encoded":{"users":15,"contents":30,' refresh --explain
check "has all" 0 " 45 explanations, .*all good" $embsum generations verify --store "$store"
$dump "$store" | grep '^[ucst] ' | cut -d ' ' -f 1,2,4- >"$dir/explained"
cmp "$dir/plain" "$dir/explained" || { echo "FAILED: the matrices are others"; failed=1; }
check "nothing new" 0 '"encoded":{"users":0,"contents":0,"tokens":0}' refresh --explain
$dump "$store" >"$dir/first"

# ---- a user and a content that change, and some that go ----
same() { # NAME: as after a first refresh of the same inputs
    $embsum refresh --model $tiny --news "$dir/news.tsv" --behaviors "$dir/behaviors.tsv" --store "lmdb:$dir/fresh" --min-coverage 0 \
        --explain --quiet >/dev/null || failed=1
    $dump "lmdb:$dir/fresh" >"$dir/right"
    $dump "$store" >"$dir/got"
    cmp "$dir/right" "$dir/got" || { echo "FAILED: $1: not what a first refresh stores"; diff "$dir/right" "$dir/got" | head -n 5; failed=1; }
}
item=$(sed -n 2p "$dir/news.tsv" | cut -f 1)
awk -F '\t' -v OFS='\t' -v item="$item" 'NR == 1 { $4 = $4 " " item " " item } { print }' "$dir/behaviors.tsv" >"$dir/more" && mv "$dir/more" "$dir/behaviors.tsv"
sed -i -e '3s/^\([^\t]*\t[^\t]*\t[^\t]*\t\)/\1Changed /' -e 5d "$dir/news.tsv"
check "little new" 0 '"deleted":{"users":0,"contents":1}' refresh --explain
same "little new"
check "and off again" 0 '"encoded":{"users":15,"contents":29' refresh
check "has none again" 0 " 0 explanations, .*all good" $embsum generations verify --store "$store"

# ---- a run that is killed between an explanation and its matrix, which nobody wants any more when the next one comes ----
if [ -x /usr/bin/redis-server ]; then
    redis-server --port 0 --unixsocket "$dir/redis.sock" --save '' --dir "$dir" >/dev/null &
    redis=$!
    trap 'kill -9 $redis; rm -rf "$dir"' EXIT
    cli() { redis-cli -s "$dir/redis.sock" "$@"; }
    until cli ping >/dev/null 2>&1; do sleep 0.05; done
    store=redis+unix:$dir/redis.sock
    refresh --explain --quiet >/dev/null
    cp "$dir/behaviors.tsv" "$dir/before.tsv"
    orphan=embsum:$(cli get '{embsum}:live'):x:u:Ghost
    for at in $(seq 20 40); do
        printf '9\tGhost\t\t%s\t\n' "$item" >>"$dir/behaviors.tsv"
        LD_PRELOAD=$BUILD/tests/trust/kill_at.so KILL_AT=$at ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0 \
            $embsum refresh --model $tiny --news "$dir/news.tsv" --behaviors "$dir/behaviors.tsv" --store "$store" --min-coverage 0 \
            --explain --quiet >/dev/null 2>&1
        cli del '{embsum}:lock' >/dev/null
        cp "$dir/before.tsv" "$dir/behaviors.tsv"
        [ "$(cli exists "$orphan")" = 1 ] && [ "$(cli exists "${orphan%:x:u:Ghost}:u:Ghost")" = 0 ] && break
        refresh --explain --quiet >/dev/null
    done
    [ "$at" -lt 40 ] || { echo "FAILED: no kill has left an explanation without its matrix, that is no test"; failed=1; }
    check "of nobody" 0 '"complete":true' refresh --explain
    same "of nobody"
fi

# ---- the judge ----
if ! command -v spm_encode >/dev/null || ! /usr/bin/python3 -c 'import numpy, torch' 2>/dev/null; then
    echo "SKIPPED: the weights' judge needs sentencepiece and python3-torch"
    [ $failed = 0 ] && exit 77
    exit 1
fi
PYTHONPATH=tests/golden PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 - $tiny "$dir/first" <<'EOF' || failed=1
import json
import subprocess
import sys

import reference

tiny, dump = sys.argv[1:]
stored = {}
for line in open(dump):
    kind, _, rest = line.rstrip("\n").partition(" ")
    if kind == "x":
        name, _, text = rest.partition(" ")
        stored[name] = json.loads(text)["codes"]
config = reference.Config(tiny + "/config.json")
news = reference.read_news(tiny + "/news.tsv")
histories = reference.read_histories(tiny + "/behaviors.tsv", news) | {"": []}
ids = reference.item_ids(config, tiny + "/spiece.model", news)
listing = subprocess.run(["spm_export_vocab", f"--model={tiny}/spiece.model"], stdout=subprocess.PIPE, check=True).stdout.decode()
pieces = [line.split("\t")[0] for line in listing.rstrip("\n").split("\n")]


def text(token):
    if token >= len(pieces):
        return "[SOS]" if token == config.sos else "[?]"
    piece = pieces[token]
    return piece[1:] if piece.startswith("\u2581") and len(piece) > 1 else piece


count = 0
for line in open(tiny + "/expected/weights.jsonl"):
    right = json.loads(line)
    user = right["side"] == "user"
    owner = right["id"]
    names = ([item for session in reference.sessions_of(config, histories[owner]) for item in session] + [""] if user
             else [text(token) for token in ids[owner]])
    codes = stored.pop(("u:" if user else "c:") + owner)
    assert len(codes) == len(right["weights"]), owner
    for looks, weights in zip(codes, right["weights"]):
        assert len(weights) == len(names), (owner, len(weights), len(names))
        most = sorted(range(len(weights)), key=lambda row: -weights[row])[:3 if user else 5]
        assert len(looks) == len(most), (owner, looks)
        for (name, weight), row in zip(looks, most):
            assert abs(weight - weights[row]) < 2e-5, (owner, looks, weights)
            # rows that weigh alike may come in either order
            alike = {names[other] for other in range(len(weights)) if abs(weights[other] - weight) < 4e-5}
            assert name in alike, (owner, name, alike)
        count += 1
assert not stored, stored.keys()
print(f"{count} codes look where PyTorch's do")
EOF
exit $failed
