#!/bin/sh
# A refresh costs what has changed, on the embedded store: what it encodes, what it deletes, what it refuses, what it leaves
# when it ends early, what it tells.
set -u
: "${BUILD:=build}"
embsum=$BUILD/embsum
dump=$BUILD/tests/trust/dump
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
demo=deploy/demo
failed=0
cp $demo/news.tsv $demo/behaviors.tsv "$dir"
model=$demo/model
store=lmdb:$dir/store

refresh() { $embsum refresh --model "$model" --news "$dir/news.tsv" --behaviors "$dir/behaviors.tsv" --store "$store" "$@"; }
# check NAME EXPECTED-CODE PATTERN COMMAND...: the exit code, and a pattern in what was printed.
check() {
    name=$1 want=$2 pattern=$3
    shift 3
    "$@" >"$dir/out" 2>&1
    got=$?
    if [ "$got" != "$want" ] || ! grep -q -- "$pattern" "$dir/out"; then
        echo "FAILED: $name: exit $got (wanted $want), pattern '$pattern', output:"
        sed 's/^/    /' "$dir/out"
        failed=1
    fi
}
said() { # NAME PATTERN: in what the last command printed
    grep -q -- "$2" "$dir/out" || { echo "FAILED: $1: pattern '$2', output:"; sed 's/^/    /' "$dir/out"; failed=1; }
}
figure() { sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" "$dir/out"; }
verified() { check "$1: verify" 0 "all good" $embsum generations verify --store "$store"; }
# What is stored is what a first refresh of the same inputs stores.
same() {
    rm -rf "$dir/fresh"
    $embsum refresh --model "$model" --news "$dir/news.tsv" --behaviors "$dir/behaviors.tsv" --store "lmdb:$dir/fresh" \
        --quiet >/dev/null || failed=1
    $dump "lmdb:$dir/fresh" >"$dir/right" && $dump "$store" >"$dir/got"
    cmp "$dir/right" "$dir/got" || { echo "FAILED: $1: not what a first refresh stores"; diff "$dir/right" "$dir/got" | head -5; failed=1; }
}

# ---- nothing new, little new ----
check "first" 0 '"users":97,"contents":288,"encoded":{"users":97,"contents":288,' refresh
all=$(figure tokens)
generation=$(sed -n 's/.*"generation":"\([^"]*\)".*/\1/p' "$dir/out")
check "nothing new" 0 '"users":97,"contents":288,"encoded":{"users":0,"contents":0,"tokens":0},"deleted":{"users":0,"contents":0}' \
    refresh --metrics "$dir/metrics"
said "the same generation" "$generation"
check "metrics" 0 'embsum_refresh_tokens 0' cat "$dir/metrics"
check "metrics of entries" 0 'embsum_refresh_entries{kind="content"} 288' cat "$dir/metrics"
check "metrics of success" 0 'embsum_refresh_last_success_timestamp_seconds 1[0-9]*$' cat "$dir/metrics"

# One more click of one user of 96, whose row is a new one; the user is encoded, nobody else.
awk -F '\t' -v OFS='\t' '$2 == "U35" && length($4) > length(longest) { longest = $4; row = $0; $4 = $4 " N1014"; more = $0 }
    END { print more }' "$dir/behaviors.tsv" >"$dir/more"
cat "$dir/more" >>"$dir/behaviors.tsv"
check "one more click" 0 '"encoded":{"users":1,"contents":0' refresh
[ "$(($(figure tokens) * 100))" -le "$((all * 3))" ] || { echo "FAILED: one more click costs $(figure tokens) of $all tokens"; failed=1; }
same "one more click"

# A text that changes is another content, and another history for its readers.
sed -i 's/^\(N1014\t[^\t]*\t[^\t]*\t\)/\1Changed: /' "$dir/news.tsv"
readers=$(cut -f2,4 "$dir/behaviors.tsv" | grep -w N1014 | cut -f1 | sort -u | wc -l)
check "a text" 0 "\"encoded\":{\"users\":$readers,\"contents\":1," refresh
same "a text"

# ---- those who go ----
sed -i '5,14d' "$dir/news.tsv"
sed -i '/\tU12\t/d' "$dir/behaviors.tsv"
check "gone" 0 '"deleted":{"users":1,"contents":10}' refresh
verified "gone"
same "gone"
sed -i 's/^\([^\t]*\t\)[^\t]*\(\t.*\)$/\1everything\2/' "$dir/news.tsv" # one category in place of twelve
check "categories" 0 '"complete":true' refresh
verified "categories"
same "categories"

# ---- what looks wrong ----
cp "$dir/news.tsv" "$dir/whole.tsv"
head -n 170 "$dir/whole.tsv" >"$dir/news.tsv"
check "a file that was cut" 1 "108 of 278 contents are in no input any more.*max-shrink" refresh --metrics "$dir/metrics" --min-coverage 0
check "metrics of a failure" 0 'embsum_refresh_success 0' cat "$dir/metrics"
check "the last success" 0 'embsum_refresh_last_success_timestamp_seconds 1[0-9]*$' cat "$dir/metrics"
check "histories without texts" 1 "of the .* ids in the histories have no text" refresh --max-shrink 100 --min-coverage 99
check "contents are all there" 0 ": 96 users, 278 contents" $embsum generations verify --store "$store"
check "if it must be" 0 '"deleted":{"users":0,"contents":108}' refresh --max-shrink 100 --min-coverage 0
same "if it must be"
cp "$dir/whole.tsv" "$dir/news.tsv"
check "and back" 0 '"encoded":{"users":[0-9]*,"contents":108' refresh

# A model whose matrices are all alike: zeros in the place of everything.
cp -r "$model" "$dir/zero"
python3 - "$dir/zero/model.safetensors" <<'EOF'
import sys
path = sys.argv[1]
data = bytearray(open(path, "rb").read())
header = 8 + int.from_bytes(data[:8], "little")
data[header:] = bytes(len(data) - header)
open(path, "wb").write(data)
EOF
before=$($embsum generations list --store "$store" | grep live)
model=$dir/zero
check "a model of zeros" 1 "is not made live: .* have the same score" refresh
[ "$before" = "$($embsum generations list --store "$store" | grep live)" ] || { echo "FAILED: it became live"; failed=1; }
check "the same again costs nothing" 1 "generation .* goes on" refresh
said "and is refused again" '"tokens":0'
model=$demo/model
check "the good one goes on" 0 '"tokens":0' refresh
building=$($embsum generations list --json --store "$store" | grep -c building)
[ "$building" = 0 ] || { echo "FAILED: the refused generation stays"; failed=1; }

# ---- a run that ends early ----
rm -rf "$dir/store"
hurry() { # a second is over after 50 looks at the clock, which is sooner than all is done, and later than nothing is
    LD_PRELOAD=$BUILD/tests/trust/clock.so CLOCK_STEP_MS=20 ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0 \
        $embsum refresh --model "$model" --news "$dir/news.tsv" --behaviors "$dir/behaviors.tsv" --store "$store" --max-seconds 1 --threads 1
}
check "no time" 0 '"state":"building".*"complete":false,"stopped":"time"' hurry
some=$(figure tokens)
check "nothing is live" 1 "live" $embsum generations verify --store "$store"
for _ in 1 2 3 4 5 6; do
    check "goes on" 0 '"stopped"' hurry
    grep -q '"complete":true' "$dir/out" && break
done
said "done in the end" '"state":"live".*"complete":true'
[ "$(figure tokens)" -lt "$all" ] && [ "$some" -gt 0 ] || { echo "FAILED: what was encoded was encoded again"; failed=1; }
same "in pieces"

# ---- a new generation although nothing is new; one for an operator to promote ----
check "full" 0 '"encoded":{"users":96,"contents":278' refresh --full
check "not the same generation" 0 "retired" $embsum generations list --store "$store"
check "apart" 0 '"state":"ready".*"encoded":{"users":96,"contents":278' refresh --no-promote
check "apart again" 0 '"state":"ready".*"encoded":{"users":0,"contents":0' refresh --no-promote
check "another dtype" 0 '"state":"live","users":96,"contents":278,"encoded":{"users":96' refresh --store-dtype bfloat16
check "a percentage is one" 2 "max-shrink must be an integer between 0 and 100" refresh --max-shrink 101
exit $failed
