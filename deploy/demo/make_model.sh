#!/bin/sh
# Train the demo's model anew, from random weights, on the demo's own texts:
#
#     sh deploy/demo/make_model.sh [OUT_DIR]          writes OUT_DIR/model.safetensors; deploy/demo/model unless given
#
# About two minutes on two cores; the program must be built. The impressions of behaviors_valid.tsv take no part, not even
# in choosing when to stop: they are what `embsum eval` judges the model by. The same number of threads on the same kind of
# processor makes the same model again, bit by bit; another kind rounds otherwise.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
embsum=${BUILD:-$here/../../build}/embsum
out=${1:-$here/model}
work=$(mktemp -d "${TMPDIR:-/tmp}/embsum-demo.XXXXXX")
trap 'rm -rf "$work"' EXIT

"$embsum" init --config "$here/model/config.json" --vocab "$here/model/spiece.model" --out "$work/start"
"$embsum" train --model "$work/start" --news "$here/news.tsv" --behaviors "$here/behaviors.tsv" \
    --summaries "$here/summaries.jsonl" --out "$work/model" --epochs 20 --batch 16 --shared-negatives 32 \
    --rate 2e-3 --head-factor 1 --threads 2
mkdir -p "$out"
cp "$work/model/model.safetensors" "$out/model.safetensors"
"$embsum" eval --model "$work/model" --news "$here/news.tsv" --behaviors "$here/behaviors_valid.tsv"
