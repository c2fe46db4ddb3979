#!/bin/sh
# `embsum tokenize` against SentencePiece's own command on over 520 texts, byte for byte: many scripts, control
# characters, NUL, bytes that are no UTF-8, 10,000 characters. EMBSUM_T5_VOCAB=FILE adds T5's own vocabulary.
set -eu
cd "$(dirname "$0")/../.."
: "${BUILD:=build}"
python=/usr/bin/python3

for tool in spm_encode spm_train $python; do
    command -v "$tool" >/dev/null || { echo "SKIPPED: $tool is not installed, the tokenizer has no judge"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

$python tests/golden/make_texts.py --out "$work"
lines=$(wc -l <"$work/lines.txt")
[ "$lines" -ge 520 ] || { echo "only $lines texts"; exit 1; }

# Vocabularies that differ in what a tokenizer could get wrong: normalisation, the algorithm, unknown pieces.
cut -f3-5 "$work/news.tsv" | tr '\t' '\n' | grep . >"$work/corpus"
train() {
    name=$1
    shift
    (cd "$work" && spm_train --input=corpus --model_prefix="$name" --num_threads=1 --minloglevel=2 \
        --pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1 "$@" >/dev/null)
}
train nfkc --vocab_size=400 --character_coverage=0.99
train bytes --vocab_size=600 --byte_fallback --character_coverage=0.98
train bpe --model_type=bpe --vocab_size=400 --normalization_rule_name=nmt_nfkc_cf --remove_extra_whitespaces=false
train char --model_type=char --vocab_size=200 --normalization_rule_name=identity --add_dummy_prefix=false

failed=0
# check VOCAB: one line of ids a text, the last with and without its newline
check() {
    spm_encode --model="$1" --output_format=id <"$work/lines.txt" >"$work/expected"
    "$BUILD/embsum" tokenize --vocab "$1" <"$work/lines.txt" >"$work/ours" || failed=1
    if ! cmp -s "$work/expected" "$work/ours"; then
        failed=1
        echo "$1: these texts get other ids (< SentencePiece, > embsum):"
        diff "$work/expected" "$work/ours" | cut -c 1-200 | head -n 10
    fi
    [ "$(wc -l <"$work/expected")" = "$lines" ] || { failed=1; echo "$1: SentencePiece answered other than $lines lines"; }
    printf 'one\ntwo' | spm_encode --model="$1" --output_format=id >"$work/expected"
    printf 'one\ntwo' | "$BUILD/embsum" tokenize --vocab "$1" | cmp - "$work/expected" || failed=1
    echo "$lines texts with $1"
}
for vocab in deploy/demo/model/spiece.model tests/golden/tiny/spiece.model "$work"/*.model; do
    check "$vocab"
done
[ -z "${EMBSUM_T5_VOCAB:-}" ] || check "$EMBSUM_T5_VOCAB"
: | "$BUILD/embsum" tokenize --vocab deploy/demo/model/spiece.model | cmp - /dev/null || failed=1
exit "$failed"
