#!/bin/sh
# A tiny model learns 32 impressions by heart: L_NCE below 0.01, L_sum below 0.1 a token, measured on the model that training
# wrote, and the summaries that `embsum encode` then generates are those it was taught, word for word. The candidates are
# the same eight contents for all readers, each clicked by some and not by others: only the history tells whose is whose.
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:=build}"
embsum=$BUILD/embsum news=deploy/demo/news.tsv vocab=deploy/demo/model/spiece.model
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
fail() {
    echo "FAILED: $*"
    failed=1
}

cat >"$dir/config.json" <<'END'
{
  "model_type": "t5", "vocab_size": 2048, "d_model": 32, "d_kv": 8, "d_ff": 37, "num_heads": 3,
  "num_layers": 2, "num_decoder_layers": 2, "relative_attention_num_buckets": 16, "relative_attention_max_distance": 50,
  "feed_forward_proj": "relu", "tie_word_embeddings": true,
  "embsum": {
    "m": 5, "n": 3, "code_dim": 7, "session_size": 4, "max_items": 10, "max_summary_tokens": 40, "sos_token_id": 2000,
    "fields": [{"column": "title", "prefix": "", "suffix": "", "max_tokens": 12}]
  }
}
END
# 32 readers with histories of 1 to 9 items, in 1 to 3 sessions; summaries of one or two sentences, as `embsum encode` writes
# them, so that they can be compared byte for byte.
awk -F '\t' -v out="$dir" '
    { id[NR - 1] = $1 }
    END {
        split("politics football cooking travel films gardening medicine computers", topic, " ")
        split("calm sharp long odd", kind, " ")
        for (u = 0; u < 32; u++) {
            history = id[u]
            for (i = 1; i < 1 + u % 9; i++) history = history " " id[(u + 13 * i) % 90]
            candidates = id[101 + u % 8] "-1"
            for (i = 1; i <= 4; i++) candidates = candidates " " id[101 + (u + i) % 8] "-0"
            print u + 1 "\tU" u "\t\t" history "\t" candidates >(out "/behaviors.tsv")
            text = "Reads " kind[1 + int(u / 8)] " pieces on " topic[1 + u % 8] "."
            if (u % 3) text = text " Then asks what is new in " topic[1 + (3 * u + 5) % 8] ", not in " topic[1 + (u + 5) % 8] "."
            print text >(out "/texts")
            print "{\"user\":\"U" u "\",\"summary\":\"" text "\"}" >(out "/summaries.jsonl")
        }
    }' $news
[ "$(sort -u "$dir/texts" | wc -l)" = 32 ] || fail "the summaries are not distinct"
tokens=$("$embsum" tokenize --vocab $vocab <"$dir/texts" | awk '{ sum += NF + 1 } END { print sum }') # with </s>

# train MODEL OUT STEPS RATE: all 32 in each step
train() {
    "$embsum" train --quiet --threads 1 --model "$1" --news $news --behaviors "$dir/behaviors.tsv" \
        --summaries "$dir/summaries.jsonl" --out "$2" --batch 32 --epochs "$3" --rate "$4" --dropout 0 --checkpoint-every 1000000 ||
        fail "train: exit $?"
}
# measure NAME FILE: the losses of a step, L_sum a token
measure() {
    sed 's/.*"nce":\([^,]*\),"sum":\([^,]*\),.*/\1 \2/' "$2" | head -n 1 |
        awk -v tokens="$tokens" -v name="$1" '{ nce = $1; token = $2 * 32 / tokens }
            END { printf "%s: L_NCE %.3g, L_sum %.3g a token\n", name, nce, token; exit !(nce < 0.01 && token < 0.1) }'
}
# generate MODEL OUT: the readers' summaries
generate() {
    "$embsum" encode --quiet --threads 1 --model "$1" --news $news --behaviors "$dir/behaviors.tsv" --out "$2" ||
        fail "encode: exit $?"
    grep -v '"user":""' "$2/summaries.jsonl" | sed 's/,"tokens":.*/}/' >"$2/texts"
}

"$embsum" init --quiet --config "$dir/config.json" --vocab $vocab --out "$dir/start" --seed 3 || exit 1
train "$dir/start" "$dir/trained" 450 1e-2
measure "at the start" "$dir/trained/train.jsonl" && fail "these losses need no training"
# One step of the finished model that changes nothing: its own losses.
train "$dir/trained" "$dir/again" 1 0
cmp "$dir/trained/model.safetensors" "$dir/again/model.safetensors" || fail "a step of rate 0 changed the model"
measure "after 450 steps" "$dir/again/train.jsonl" || fail "not learned by heart"

generate "$dir/start" "$dir/before"
cmp -s "$dir/before/texts" "$dir/summaries.jsonl" && fail "these summaries need no training"
generate "$dir/trained" "$dir/after"
if cmp "$dir/after/texts" "$dir/summaries.jsonl"; then
    echo "32 of 32 summaries, $tokens tokens, come back word for word"
else
    diff "$dir/after/texts" "$dir/summaries.jsonl" | head -n 10
    fail "other summaries"
fi
exit $failed
