#!/bin/sh
# The paper's ablations and size curves on readers of books: a small model, titles alone, the same 2,000 steps for every run,
# two seeds.
#
#     BOOKS=DIR sh tests/bench/study.sh [OUT]          or: make bench-study
#
# BOOKS has news.tsv, behaviors_train.tsv, behaviors_valid.tsv and summaries_train.jsonl. OUT (build/bench/study unless
# given) gets the study; one that was stopped goes on where it was. About half an hour on two idle cores. Needs spm_train
# (Debian's sentencepiece) for a vocabulary of the catalogue's own 4,000 pieces.
set -eu
cd "$(dirname "$0")/../.."
: "${BUILD:=build}" "${BOOKS:?is the folder of the books}"
out=${1:-$BUILD/bench/study}
mkdir -p "$out"

[ -f "$out/spiece.model" ] || {
    cut -f 4,5 "$BOOKS/news.tsv" | tr '\t' '\n' >"$out/texts"
    spm_train --input="$out/texts" --model_prefix="$out/new" --model_type=unigram --vocab_size=4000 \
        --character_coverage=0.9995 --pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1 --num_threads=1 --minloglevel=1
    mv "$out/new.model" "$out/spiece.model"
    rm "$out/new.vocab" "$out/texts"
}
"$BUILD/embsum" study --config tests/bench/books/study.json --vocab "$out/spiece.model" --news "$BOOKS/news.tsv" \
    --behaviors "$BOOKS/behaviors_train.tsv" --summaries "$BOOKS/summaries_train.jsonl" \
    --valid "$BOOKS/behaviors_valid.tsv" --out "$out" --seeds 1,2 --ablations no_cpe,no_upe,no_grouping,no_lsum \
    --m 2,8,32 --n 1,4,16 --session-size 4,8 --steps 2000 --batch 48 --micro-batch 24 --shared-negatives 64 \
    --rate 2e-3 --head-factor 1 | tee "$out/study.txt"
