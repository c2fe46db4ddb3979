#!/bin/sh
# `embsum encode` against EmbSum in PyTorch float64 (tests/golden/reference.py): every A and B within 2e-5 in the
# Frobenius norm, every summary token for token and as text. On small models of odd sizes with every switch, in float32,
# float16 and bfloat16; 70 items, 22 users with 0, 1, 3, 4, 5, 59, 60, 61, 200 and other numbers of items in their
# histories. On T5-small's dimensions users with 0, 1, 5, 9 and 61.
#
#     EMBSUM_LONG=1           all of these users and full summaries of 96 tokens on T5-small's dimensions, and weights from embsum init too
#     EMBSUM_T5_VOCAB=FILE    T5's own vocabulary for T5-small's dimensions, in place of the demo's
set -eu
cd "$(dirname "$0")/../.."
: "${BUILD:=build}"
embsum=$BUILD/embsum golden=tests/golden python=/usr/bin/python3

if ! $python -c 'import numpy, torch' 2>/dev/null || ! command -v spm_encode >/dev/null; then
    echo "SKIPPED: python3-numpy, python3-torch or sentencepiece is not installed, the encoder has no judge"
    exit 77
fi
work=$(mktemp -d)
reference=
trap '[ -z "$reference" ] || kill "$reference" 2>/dev/null || :; rm -rf "$work"' EXIT

$python $golden/make_texts.py --out "$work/texts"
# shellcheck disable=SC2046 # none, or an option and its value
$python $golden/make_texts.py --out "$work/texts_small" $([ "${EMBSUM_LONG:-}" ] || echo "--lengths 0,1,5,9,61")
$python $golden/make_configs.py --out "$work/configs" --summary "$([ "${EMBSUM_LONG:-}" ] && echo 96 || echo 24)"
vocab=deploy/demo/model/spiece.model

# ---- the models: one folder each in $work/models

mkdir "$work/models"
for config in "$work"/configs/*/; do
    name=$(basename "$config")
    $python $golden/weights.py random --config "$config/config.json" --seed 1 --end 2.2 --out "$work/models/$name"
    cp $vocab "$work/models/$name/"
done
[ -z "${EMBSUM_T5_VOCAB:-}" ] || cp "$EMBSUM_T5_VOCAB" "$work/models/small/spiece.model"
for dtype in F16 BF16; do
    $python $golden/weights.py convert --model "$work/models/base" --dtype $dtype --out "$work/models/base-$dtype"
    $python $golden/weights.py convert --model "$work/models/gated-untied" --dtype $dtype --out "$work/models/gated-$dtype"
done
for name in base gated-untied limits ${EMBSUM_LONG:+small}; do
    "$embsum" init --quiet --config "$work/configs/$name/config.json" --vocab $vocab --seed 3 --out "$work/models/$name-init"
done

# ---- both encode, one compares

texts() { # of a model
    case $1 in small*) at=$work/texts_small ;; *) at=$work/texts ;; esac
    echo "--news $at/news.tsv --behaviors $at/behaviors.tsv"
}
small=$(cd "$work/models" && echo small*)
tiny=$(cd "$work/models" && for name in *; do case $name in small*) ;; *) echo "$name" ;; esac done)
failed=0
mkdir "$work/ours"

# Become the reference of some models, on one core. It makes large tensors by the thousand: the C library is told to
# keep their pages (32 MiB is the most it takes for a threshold).
reference() {
    export MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=4000000000 OPENBLAS_NUM_THREADS=1
    # shellcheck disable=SC2046,SC2086 # lists of names without spaces
    exec $python $golden/reference.py encode $(texts "$1") \
        --model $(printf "$work/models/%s " "$@") --out $(printf "$work/reference/%s " "$@")
}
# shellcheck disable=SC2086
reference $small &
reference=$!
for name in $tiny $small; do
    # shellcheck disable=SC2046 # two options and their values
    "$embsum" encode --quiet --model "$work/models/$name" $(texts "$name") --out "$work/ours/$name" || failed=1
done
# shellcheck disable=SC2086
(reference $tiny) || failed=1
wait $reference || failed=1
reference=

for name in $tiny $small; do
    $python $golden/compare.py --bound 2e-5 --name "$name" "$work/reference/$name" "$work/ours/$name" || failed=1
done
exit "$failed"
