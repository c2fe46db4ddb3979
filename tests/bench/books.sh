#!/bin/sh
# From scratch to a model of readers: trains on MIND-format impressions of books and evaluates on other readers.
#
#     BOOKS=DIR T5VOCAB=spiece.model sh tests/bench/books.sh [OUT]          or: make bench-books
#
# BOOKS has news.tsv, behaviors_train.tsv and behaviors_valid.tsv; T5VOCAB is T5's vocabulary. OUT (build/bench/books
# unless given) gets the model, its curves and eval.json; a run that was stopped goes on where it was. About twenty minutes
# on two idle cores. The validation is not looked at before the end. VALID=FILE evaluates on another file, OUT's model is
# kept then. Exit code 0 if the AUC is at least 0.75.
set -eu
cd "$(dirname "$0")/../.."
: "${BUILD:=build}" "${BOOKS:?is the folder of the books}" "${T5VOCAB:?is the path of spiece.model of T5}"
: "${VALID:=$BOOKS/behaviors_valid.tsv}"
out=${1:-$BUILD/bench/books}
mkdir -p "$out"

[ -f "$out/start/config.json" ] ||
    "$BUILD/embsum" init --config tests/bench/books/config.json --vocab "$T5VOCAB" --out "$out/start"
[ -f "$out/trained" ] || {
    "$BUILD/embsum" train --model "$out/start" --news "$BOOKS/news.tsv" --behaviors "$BOOKS/behaviors_train.tsv" \
        --out "$out/model" --epochs 3 --batch 48 --micro-batch 24 --shared-negatives 64 --rate 1e-3 --head-factor 1 \
        --resume
    touch "$out/trained"
}
"$BUILD/embsum" eval --model "$out/model" --news "$BOOKS/news.tsv" --behaviors "$VALID" | tee "$out/eval.json"
awk -F '"auc": ' '{ split($2, part, ","); exit !(part[1] >= 0.75) }' "$out/eval.json"
