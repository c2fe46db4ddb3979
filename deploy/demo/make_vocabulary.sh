#!/bin/sh
# Trains the demo's SentencePiece vocabulary on the strings that the model will read and write: the three fields of
# every item with their prefixes, and the summaries. The words of the prefixes and the categories are given once more
# on lines of their own: the trainer takes as candidates only strings that it meets before two different characters,
# and would otherwise spell "News" and "Category", whose sequels never change, in fragments. Needs Debian's
# `sentencepiece`.
#
#     sh deploy/demo/make_vocabulary.sh [OUT_DIR]          writes OUT_DIR/model/spiece.model
#
# The model file records the names of its input and output, so both are the same wherever this runs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-$here}/model"
cd "${1:-$here}/model"
{
    awk -F '\t' '{
        print "News Title: " $4 ";"
        if ($5 != "") print "News Abstract: " $5 ";"
        print "News Category: " $2
        if (!seen[$2]++) print $2
    }
    END { print "News\nTitle\nAbstract\nCategory" }' "$here/news.tsv"
    sed 's/.*"summary": "//; s/"}$//' "$here/summaries.jsonl"
} | spm_train --input=/dev/stdin --model_prefix=spiece --model_type=unigram --vocab_size=2000 \
    --character_coverage=1.0 --normalization_rule_name=nmt_nfkc --byte_fallback=false \
    --pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1 --num_threads=1 --minloglevel=1
rm spiece.vocab
