#!/bin/sh
# docs/PYTORCH.md as it stands: its commands are run, a model and matrices come from PyTorch, a daemon serves them, and the scores
# that PyTorch computed come back over HTTP within 1e-5. Then once more by this script's own eyes, from the files, and for a user
# whom nobody knows.
set -eu
cd "$(dirname "$0")/../.."
: "${BUILD:=build}"
export BUILD
python=/usr/bin/python3
$python -c 'import numpy, torch, sentencepiece' 2>/dev/null || {
    echo "SKIPPED: python3-torch or python3-sentencepiece is not installed"
    exit 77
}
command -v curl >/dev/null || { echo "SKIPPED: curl is not installed"; exit 77; }

work=$(mktemp -d)
daemon=
finish() {
    [ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

$python -B tests/docs/commands.py --verbose docs/PYTORCH.md >"$work/log" || { cat "$work/log"; exit 1; }
cat "$work/log"

# A model whose feed-forward is gated and whose output is tied, which the demo's is not: as T5 v1.1 and v1.0 have them.
example=deploy/examples/pytorch_import.py texts="--news tests/golden/tiny/news.tsv --behaviors tests/golden/tiny/behaviors.tsv"
sed 's/"feed_forward_proj": "relu"/"feed_forward_proj": "gated-gelu"/; s/"tie_word_embeddings": false/"tie_word_embeddings": true/' \
    deploy/demo/model/config.json >"$work/config.json"
$python -B $example new --config "$work/config.json" --vocab deploy/demo/model/spiece.model --out "$work/model" --seed 3
# shellcheck disable=SC2086 # two options and their values
$python -B $example encode --model "$work/model" $texts --out "$work/matrices"
# shellcheck disable=SC2086
"$BUILD/embsum" refresh --quiet --model "$work/model" $texts --store "lmdb:$work/store" >/dev/null
"$BUILD/embsumd" --store "lmdb:$work/store" --listen 127.0.0.1:0 2>"$work/embsumd.log" &
daemon=$!
tries=$((300 * ${EMBSUM_SLOW:-1}))
until address=$(sed -n 's/.*"msg": *"listening".*"address": *"\([^"]*\)".*/\1/p' "$work/embsumd.log") && [ "$address" ]; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || { cat "$work/embsumd.log"; exit 1; }
    sleep 0.1
done
$python -B $example compare --scores "$work/matrices/scores.tsv" --url "http://$address"

$python -B - "$work/matrices" "http://$address" <<'END'
"""The judge: scores from the .npy files by the definition, of all users and the default one, against GET /rank."""
import json
import math
import pathlib
import sys
import urllib.parse
import urllib.request

import numpy as np

folder, url = pathlib.Path(sys.argv[1]), sys.argv[2]
contents = (folder / "content.ids").read_text().split("\n")[:-1]
users = (folder / "user.ids").read_text().split("\n")[:-1]
a, b = np.load(folder / "user.npy").astype(float), np.load(folder / "content.npy").astype(float)
w = np.load(folder / "score_proj.npy").astype(float)
erf = np.vectorize(math.erf)
worst = 0.0
for user, matrix in zip(users, a):
    query = urllib.parse.urlencode({"user": user or "a-stranger", "candidates": ",".join(contents)}, safe=",")
    answer = json.load(urllib.request.urlopen(f"{url}/rank?{query}", timeout=10))
    assert answer["user_status"] == ("present" if user else "default"), answer
    assert len(answer["ranking"]) == len(contents) and not answer["missing"], answer["missing"]
    for row in answer["ranking"]:
        content = b[contents.index(row["id"])]
        hidden = content @ w
        weights = np.exp(matrix @ (0.5 * hidden * (1 + erf(hidden / math.sqrt(2)))).T)
        score = (weights * (matrix @ content.T)).sum() / weights.sum()
        worst = max(worst, abs(score - row["score"]))
assert users[-1] == "" and len(users) > 3
print(f"{len(users) * len(contents)} scores by the definition: largest difference {worst:.1e}")
assert worst <= 1e-5
END
