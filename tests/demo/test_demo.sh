#!/bin/sh
# The demo catalogue is what its README says: well formed, consistent, learnable, and made by its scripts byte for byte.
# Needs sh and awk; python3, sentencepiece's programs and iconv each add a check where they are installed.
#
#     sh tests/demo/test_demo.sh          DEMO=dir tests another copy
# shellcheck disable=SC2016 # the dollars are awk's
set -u
: "${DEMO:=$(dirname "$0")/../../deploy/demo}"
news=$DEMO/news.tsv train=$DEMO/behaviors.tsv valid=$DEMO/behaviors_valid.tsv summaries=$DEMO/summaries.jsonl
config=$DEMO/model/config.json
failed=0

say() { printf '%s\n' "$*"; }
fail() {
    say "FAIL: $*"
    failed=1
}
# part NAME AWK-PROGRAM FILE...: passes if the program says nothing but lines that begin with "ok". The functions of
# $lib are at its disposal.
lib='
function bad(why) { printf "%s:%d: %s\n", FILENAME, FNR, why }
function need(truth, why) { if (!truth) printf "%s\n", why }
'
part() {
    name=$1 program=$2
    shift 2
    out=$(LC_ALL=C awk -F '\t' "$lib$program" "$@" 2>&1) || fail "$name: awk failed"
    problems=$(printf '%s\n' "$out" | grep -v -e '^ok' -e '^$' | head -n 5)
    printf '%s\n' "$out" | grep '^ok' | sed "s/^ok/$name:/"
    if [ -n "$problems" ]; then
        fail "$name"
        say "$problems"
    fi
}

for file in "$news" "$train" "$valid" "$summaries" "$config" "$DEMO/model/spiece.model" "$DEMO/README.md"; do
    [ -s "$file" ] || fail "$file is missing or empty"
done
[ "$failed" = 0 ] || exit 1

# ---- news -------------------------------------------------------------------------------------------------

part news '
NF != 8 { bad(NF " columns, not 8") }
/\r/ { bad("a carriage return") }
$1 !~ /^N[0-9]+$/ { bad("id " $1) }
id[$1]++ { bad("id " $1 " again") }
title[$4]++ { bad("title again: " $4) }
$2 !~ /^[a-z]+$/ || $3 !~ /^[a-z-]+$/ { bad("category " $2 ", subcategory " $3) }
length($4) < 15 || $4 ~ /^ | $|  / || $5 ~ /^ | $|  / { bad("title or abstract out of shape") }
$6 != "https://news.example/" $1 { bad("url " $6) }
{ count[$2]++; finer[$2, $3]++ || finers[$2]++; bare += $5 == ""; foreign += /[\200-\377]/ }
END {
    for (c in count) {
        topics++
        need(count[c] >= 22, "category " c " has " count[c] " items, fewer than 22")
        need(finers[c] >= 2, "category " c " has one subcategory")
    }
    need(topics >= 12, topics " categories, fewer than 12")
    need(NR >= 264, NR " items, fewer than 264")
    need(bare >= 1 && bare <= NR / 20, bare " items without an abstract")
    need(foreign >= 10, "UTF-8 beyond ASCII in only " foreign + 0 " items")
    print "ok " NR " items in " topics " categories, " bare " without an abstract, " foreign " with more than ASCII"
}' "$news"

if command -v iconv >/dev/null; then
    for file in "$news" "$train" "$valid" "$summaries" "$config" "$DEMO/README.md"; do
        iconv -f UTF-8 -t UTF-8 "$file" >/dev/null || fail "$file is not UTF-8"
    done
fi

# ---- behaviours -------------------------------------------------------------------------------------------

# Both files as one log: what holds within a reader must hold across the split.
part behaviors '
# The seconds of MIND time, 0 if it is not written as MIND does. Months and days need not be exact, only increase.
function seconds(time,    p, d, t, hour) {
    if (time !~ /^[1-9][0-9]?\/[1-9][0-9]?\/20[0-9][0-9] [1-9][0-9]?:[0-5][0-9]:[0-5][0-9] [AP]M$/) return 0
    split(time, p, " "); split(p[1], d, "/"); split(p[2], t, ":")
    hour = t[1] % 12 + (p[3] == "PM" ? 12 : 0)
    return (((d[3] * 12 + d[1]) * 31 + d[2]) * 24 + hour) * 3600 + t[2] * 60 + t[3]
}
FNR == 1 { file++ }
file == 1 { known[$1] = 1; next }
NF != 5 || /\r/ { bad(NF " columns, not 5, or a carriage return") }
$1 != ++number { bad("impression " $1 ", expected " number) }
$2 !~ /^U[0-9]+$/ { bad("user " $2) }
seconds($3) == 0 || seconds($3) <= last { bad("time " $3) }
{
    last = seconds($3)
    user = $2
    if (file == 2) train[user]++
    else if (held[user]++) bad("a second held-out impression of " user)
    split("", read)
    length_now = split($4, history, " ")
    for (i = 1; i <= length_now; i++) {
        if (!(history[i] in known)) bad("unknown history item " history[i])
        if (read[history[i]]++) bad(history[i] " twice in the history")
    }
    if ($4 ~ /  |^ | $/ || $5 ~ /  |^ | $/) bad("stray space")
    # Either the history stands still, or it is the last one and what was clicked in between, in whatever order.
    if (user in before && $4 != before[user]) {
        if (before[user] != "" && index($4 " ", before[user] " ") != 1) bad("the history does not continue the last one")
        n = split(clicked[user], list, " ")
        if (length_now != long[user] + n) bad("the history did not grow by what was clicked")
        for (i = 1; i <= n; i++) if (!(list[i] in read)) bad(list[i] " was clicked and is not in the history")
        grown++
    }
    before[user] = $4; long[user] = length_now; clicked[user] = ""; seen_length[length_now] = 1
    if (length_now > longest) longest = length_now
    positives = negatives = 0
    split("", shown)
    n = split($5, list, " ")
    for (i = 1; i <= n; i++) {
        if (list[i] !~ /^N[0-9]+-[01]$/) { bad("candidate " list[i]); continue }
        item = substr(list[i], 1, length(list[i]) - 2)
        if (!(item in known)) bad("unknown candidate " item)
        if (shown[item]++) bad(item " twice in the impression")
        if (item in read) bad(item " is shown and already read")
        if (list[i] ~ /-1$/) { positives++; clicked[user] = clicked[user] item " " }
        else negatives++
    }
    if (positives < 1 || positives > 2) bad(positives " clicks")
    if (negatives < 8 || negatives > 14) bad(negatives " items not clicked")
    rows[user]++
}
END {
    for (u in train) {
        users++
        need(u in held, u " has no held-out impression")
        need(rows[u] >= 4 && rows[u] <= 6, u " has " rows[u] " impressions")
    }
    for (u in held) only += !(u in train)
    need(users >= 80, users " users in training, fewer than 80")
    need(only >= 2, only + 0 " users are in the held-out file alone")
    need(grown >= users, "only " grown + 0 " histories grow")
    n = split("0 1 2 3 4 5 8 59 60 61", edge, " ")
    for (i = 1; i <= n; i++) need(edge[i] in seen_length, "no history of " edge[i] " items")
    need(longest >= 62 && longest <= 72, "the longest history has " longest " items")
    print "ok " users " users, " only " more held out alone, " number " impressions, histories of 0 to " longest " items"
}' "$news" "$train" "$valid"

# A topic is the reader'\''s own when it fills a fifth of the history. Readers without a history have none and do not count.
learnable='
FNR == 1 { file++ }
file == 1 { topic[$1] = $2; next }
$4 == "" { next }
{
    split("", share)
    n = split($4, history, " ")
    for (i = 1; i <= n; i++) share[topic[history[i]]] += 1 / n
    own = 0
    for (t in share) own += share[t] >= 0.2
    several[own >= 2] += !($2 in met); met[$2] = 1
    m = split($5, list, " ")
    auc = 0; split("", p); pos = 0
    for (i = 1; i <= m; i++) {
        t = topic[substr(list[i], 1, length(list[i]) - 2)]
        value[i] = share[t] + 0
        click = list[i] ~ /-1$/
        total[click]++; hits[click] += value[i] >= 0.2
        if (click) p[++pos] = value[i]
    }
    for (i = 1; i <= m; i++) if (list[i] !~ /-1$/)
        for (j = 1; j <= pos; j++) auc += (p[j] > value[i]) + (p[j] == value[i]) / 2
    sum += auc / (pos * (m - pos)); impressions++
}
END {
    clicked = hits[1] / total[1]; skipped = hits[0] / total[0]
    need(clicked > 0.8, "only " clicked " of the clicks lie in topics of the history")
    need(skipped < 0.35, skipped " of the items not clicked lie in topics of the history")
    need(several[1] * 3 >= several[0] + several[1], "fewer than a third of the readers have two topics")
    need(sum / impressions > 0.92, "topics alone rank with AUC " sum / impressions)
    printf "ok of the clicks %.3f, of the rest %.3f lie in topics of the history; ", clicked, skipped
    printf "topics alone give AUC %.3f\n", sum / impressions
}'
part training "$learnable" "$news" "$train"
part held-out "$learnable" "$news" "$valid"

# ---- summaries --------------------------------------------------------------------------------------------

part summaries '
FNR == 1 { file++ }
file <= 2 { if ($4 != "") reader[$2] = 1; next }
!/^\{"user": "U[0-9]+", "summary": "[^"\\]+\."\}$/ { bad("not a summary: " $0); next }
{
    split($0, quoted, "\"")
    user = quoted[4]
    if (!(user in reader)) bad(user " has no history")
    if (had[user]++) bad(user " again")
    lines++
    texts += !said[quoted[8]]++
}
END {
    for (u in reader) need(u in had, u " has a history and no summary")
    need(texts * 2 > lines, "only " texts " different sentences")
    print "ok " lines " readers, " texts " different sentences"
}' "$train" "$valid" "$summaries"

# ---- model ------------------------------------------------------------------------------------------------

pieces=
command -v spm_export_vocab >/dev/null && pieces=$(spm_export_vocab --model="$DEMO/model/spiece.model" | wc -l)
part model '
{
    line = $0
    while (match(line, /"[a-z_]+": [0-9.e-]+/)) {
        split(substr(line, RSTART + 1, RLENGTH - 1), pair, "\": ")
        if (pair[1] != "max_tokens") v[pair[1]] = pair[2] + 0
        line = substr(line, RSTART + RLENGTH)
    }
}
/"tie_word_embeddings": false/ { heads = 1 }
END {
    sos = v["sos_token_id"]
    need(sos > 0 && (pieces == "" || sos == pieces), "sos_token_id " sos " is not the first free id, " pieces)
    need(v["vocab_size"] % 64 == 0 && v["vocab_size"] > sos && v["vocab_size"] <= sos + 64, "vocab_size " v["vocab_size"])
    need(v["max_items"] % v["session_size"] == 0, "max_items is not a whole number of sessions")
    need("pad_token_id" in v && v["pad_token_id"] == 0 && v["eos_token_id"] == 1, "pad is not 0 or eos is not 1")
    d = v["d_model"]; p = v["code_dim"]
    attention = 4 * d * v["num_heads"] * v["d_kv"] + d
    feed_forward = 2 * d * v["d_ff"] + d
    count = (1 + heads) * v["vocab_size"] * d + 2 * v["relative_attention_num_buckets"] * v["num_heads"] + 2 * d
    count += v["num_layers"] * (attention + feed_forward) + v["num_decoder_layers"] * (2 * attention + feed_forward)
    count += (v["m"] + v["n"]) * p + 2 * d * p + d * d
    need(count > 100000 && count * 4 < 3000000, count " parameters")
    figure = sprintf("%d,%03d parameters", count / 1000, count % 1000)
    need(index(readme, figure) > 0, "README.md does not say " figure)
    print "ok " count " parameters, " count * 4 " bytes in float32"
}' pieces="$pieces" readme="$(grep parameters "$DEMO/README.md")" "$config"

# ---- the scripts and the README ---------------------------------------------------------------------------

temp=$(mktemp -d) || exit 1
trap 'rm -rf "$temp"' EXIT
# again SCRIPT FILE...: what the script makes in another folder is what is here
again() {
    script=$1
    shift
    case $script in *.py) python3 "$DEMO/$script" "$temp" ;; *) sh "$DEMO/$script" "$temp" ;; esac || fail "$script"
    for file in "$@"; do
        if cmp "$temp/$file" "$DEMO/$file"; then say "$script: the same $file"; else fail "$script: another $file"; fi
    done
}
if command -v python3 >/dev/null; then
    again make_behaviors.py behaviors.tsv behaviors_valid.tsv summaries.jsonl
else
    say "make_behaviors.py: not run, no python3"
fi
# The trainer's floating point is the same bits only on the same build of it.
case $(spm_train --version 2>&1)-$(uname -m) in
*' 0.1.97-x86_64') again make_vocabulary.sh model/spiece.model ;;
*) say "make_vocabulary.sh: not run, needs spm_train 0.1.97 on x86_64" ;;
esac
for command in 'python3 deploy/demo/make_behaviors.py' 'sh deploy/demo/make_vocabulary.sh' 'sh deploy/demo/make_model.sh' 'sh tests/demo/test_demo.sh'; do
    grep -qF "$command" "$DEMO/README.md" || fail "README.md does not name: $command"
done
# The README quotes the trainer's command: every option of the script must be in it.
# shellcheck disable=SC2013 # options without spaces
for option in $(grep -o -e '--[a-z_]*=[a-z0-9_./-]*' "$DEMO/make_vocabulary.sh"); do
    grep -qF -e "$option" "$DEMO/README.md" || fail "README.md does not name: $option"
done
for file in "$DEMO"/*.* "$DEMO"/model/*; do
    grep -qF "\`${file#"$DEMO"/}\`" "$DEMO/README.md" || fail "README.md does not tell of ${file#"$DEMO"/}"
done

texts=$(cat "$news" "$train" "$valid" "$summaries" | wc -c)
[ "$texts" -lt 400000 ] || fail "the texts take $texts bytes"
say "size: $texts bytes of texts, $(cat "$DEMO"/*.* "$DEMO"/model/* | wc -c) in all"
size=$(cat "$DEMO"/model/* | wc -c)
[ "$size" -le 3000000 ] || fail "the model takes $size bytes"
say "size: $size bytes of model"
[ "$failed" = 0 ]
