#!/bin/sh
# Make the committed golden model again: tests/golden/make_tiny.sh [OUT], by default tests/golden/tiny.
set -eu
cd "$(dirname "$0")"
out=${1:-tiny}
python=/usr/bin/python3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out/expected"

$python make_texts.py --out "$work" --seed 7 --items 30 --lengths 0,1,3,4,5,9,10,11,13,25
cp "$work/news.tsv" "$work/behaviors.tsv" "$out/"
cut -f3-5 "$work/news.tsv" | tr '\t' '\n' | grep . >"$work/corpus"
# T5's ids: pad 0, </s> 1, unknown 2
# (the model file holds the names of its inputs: relative ones keep it the same)
(cd "$work" && spm_train --input=corpus --model_prefix=spiece --model_type=unigram --vocab_size=250 \
    --normalization_rule_name=identity --pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1 --num_threads=1 \
    --character_coverage=0.98 --minloglevel=1)
cp "$work/spiece.model" "$out/"
$python weights.py random --config tiny.json --seed 241 --out "$out"
$python reference.py encode --model "$out" --news "$out/news.tsv" --behaviors "$out/behaviors.tsv" --out "$out/expected"
