#!/bin/sh
# The batch program as ops use it: exit codes, messages that name the place, and a live generation that no failure
# touches. On the embedded store.
set -u
: "${BUILD:=build}"
embsum=$BUILD/embsum
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
store=lmdb:$dir/store
tiny=tests/golden/tiny
failed=0

# check NAME EXPECTED-CODE PATTERN COMMAND...: run, compare the exit code, look for the pattern in what it printed.
check() {
    name=$1 want=$2 pattern=$3
    shift 3
    "$@" >"$dir/out" 2>&1
    got=$?
    if [ "$got" != "$want" ] || { [ -n "$pattern" ] && ! grep -q -- "$pattern" "$dir/out"; }; then
        echo "FAILED: $name: exit $got (wanted $want), pattern '$pattern', output:"
        sed 's/^/    /' "$dir/out"
        failed=1
    fi
}
live() {
    $embsum generations list --json --store "$store" | sed -n 's/.*"generation":"\([^"]*\)","state":"live".*/\1/p'
}
refresh() {
    $embsum refresh --model "$dir/model" --news "$tiny/news.tsv" --behaviors "$tiny/behaviors.tsv" --store "$store" "$@"
}

# ---- usage ----
check "no command" 2 "usage: embsum COMMAND" $embsum
check "unknown command" 2 "unknown command frobnicate" $embsum frobnicate
check "help" 0 "Exit codes" $embsum --help
check "version" 0 "embsum [0-9]" $embsum --version
for command in init train eval encode refresh worker import generations rank doctor tokenize; do
    check "$command --help" 0 "usage: embsum $command" $embsum $command --help
    check "$command --nonsense" 2 "unknown option --nonsense" $embsum $command --nonsense
done
check "missing option" 2 "missing: --" $embsum encode --model x
check "option without value" 2 "needs a value" $embsum encode --model
check "option twice" 2 "given twice" $embsum encode --model a --model b
check "number out of range" 2 "must be an integer between" $embsum encode --threads 9999 --model a
check "number with letters" 2 "must be an integer" $embsum encode --threads=2x --model a
check "dtype" 2 "store-dtype" refresh --store-dtype int8
check "dtype of the encoder" 2 "is not float32, bfloat16 or int8" refresh --dtype fp8
check "generations without a word" 2 "usage" $embsum generations --store "$store"
check "promote without a name" 2 "usage" $embsum generations promote --store "$store"

# ---- init ----
config=tests/golden/tiny.json
check "init" 0 "parameters" $embsum init --config $config --vocab $tiny/spiece.model --out "$dir/model" --seed 7
check "init never overwrites" 1 "is there already" \
    $embsum init --config $config --vocab $tiny/spiece.model --out "$dir/model"
check "init --seed again" 0 "" $embsum init --config $config --vocab $tiny/spiece.model --out "$dir/again" --seed 7 --quiet
cmp "$dir/model/model.safetensors" "$dir/again/model.safetensors" || failed=1
check "init from a checkpoint" 0 "" $embsum init --t5 "$dir/model" --out "$dir/from" --quiet
cmp "$dir/model/model.safetensors" "$dir/from/model.safetensors" || failed=1
check "no such config" 1 "nowhere.json: No such file" \
    $embsum init --config nowhere.json --vocab $tiny/spiece.model --out "$dir/m2"
check "vocabulary that is none" 1 "is no SentencePiece model" \
    $embsum init --config $config --vocab $tiny/news.tsv --out "$dir/m3"
sed 's/"code_dim"/"code_dims"/' $config >"$dir/unknown.json"
check "unknown key" 1 "unknown.json: unknown key embsum.code_dims" \
    $embsum init --config "$dir/unknown.json" --vocab $tiny/spiece.model --out "$dir/m4"

# ---- refresh, and what a failed one leaves ----
check "nothing is live" 1 "no generation is live\|live" $embsum generations verify --store "$store"
check "refresh" 0 '"state":"live"' refresh
first=$(live)
[ -n "$first" ] || { echo "FAILED: nothing is live after a refresh"; failed=1; }
check "verify" 0 "30 contents, 12 categories, .*all good" $embsum generations verify --store "$store"

bad() { # NAME PATTERN NEWS BEHAVIORS: the refresh fails, names the place, and the live generation stays
    check "$1" 1 "$2" $embsum refresh --model "$dir/model" --news "$3" --behaviors "$4" --store "$store"
    [ "$(live)" = "$first" ] || { echo "FAILED: $1: the live generation changed"; failed=1; }
}
{ cat $tiny/news.tsv; printf 'X1\tonly\tthree\n'; } >"$dir/short.tsv"
lines=$(($(wc -l <$tiny/news.tsv) + 1))
bad "missing columns" "short.tsv:$lines: 3 columns instead of 8" "$dir/short.tsv" $tiny/behaviors.tsv
{ cat $tiny/news.tsv; printf 'X1\ta\tb\t\377\376\td\te\tf\tg\n'; } >"$dir/bytes.tsv"
bad "bytes that are not UTF-8" "bytes.tsv:$lines: the line is not valid UTF-8" "$dir/bytes.tsv" $tiny/behaviors.tsv
{ cat $tiny/news.tsv; sed -n '1s/\t/\tother-/p' $tiny/news.tsv; } >"$dir/twice.tsv"
bad "an id twice" "twice.tsv:$lines: the id .* was given to another item in line 1" "$dir/twice.tsv" $tiny/behaviors.tsv
{ cat $tiny/behaviors.tsv; printf '9\tU9\n'; } >"$dir/b.tsv"
bad "behaviours with missing columns" "2 columns instead of 5" $tiny/news.tsv "$dir/b.tsv"
bad "no news" "nowhere.tsv: No such file" nowhere.tsv $tiny/behaviors.tsv
: >"$dir/empty.tsv"
bad "empty news" "empty.tsv: no items" "$dir/empty.tsv" $tiny/behaviors.tsv
mkdir "$dir/broken"
cp "$dir/model"/* "$dir/broken/"
dd if=/dev/zero of="$dir/broken/model.safetensors" bs=1 seek=3 count=3 conv=notrunc 2>/dev/null
printf '\377' | dd of="$dir/broken/model.safetensors" bs=1 seek=6 conv=notrunc 2>/dev/null
check "broken model" 1 "model.safetensors: the header claims" $embsum refresh --model "$dir/broken" \
    --news $tiny/news.tsv --behaviors $tiny/behaviors.tsv --store "$store"

# Windows line ends, a byte order mark, empty lines, a line of a megabyte: the same matrices.
{ printf '\357\273\277'; sed 's/$/\r/' $tiny/news.tsv; printf '\r\n\n'; } >"$dir/crlf.tsv"
check "encode" 0 "" $embsum encode --model "$dir/model" --news $tiny/news.tsv --behaviors $tiny/behaviors.tsv \
    --out "$dir/plain" --threads 1 --quiet
check "encode CRLF" 0 "" $embsum encode --model "$dir/model" --news "$dir/crlf.tsv" --behaviors $tiny/behaviors.tsv \
    --out "$dir/crlf" --threads 1 --quiet
cmp "$dir/plain/content.npy" "$dir/crlf/content.npy" && cmp "$dir/plain/content.ids" "$dir/crlf/content.ids" &&
    cmp "$dir/plain/user.npy" "$dir/crlf/user.npy" || failed=1
{ cat $tiny/news.tsv; printf 'BIG\ta\tb\t'; head -c 1000000 /dev/zero | tr '\0' 'x'; printf '\t\t\t\t\n'; } >"$dir/big.tsv"
check "a line of a megabyte" 0 "" $embsum encode --model "$dir/model" --news "$dir/big.tsv" \
    --behaviors $tiny/behaviors.tsv --out "$dir/big" --quiet
check "allowed bad rows" 0 "short.tsv:$lines" $embsum encode --model "$dir/model" --news "$dir/short.tsv" \
    --behaviors $tiny/behaviors.tsv --out "$dir/allowed" --max-bad 1
cmp "$dir/plain/content.npy" "$dir/allowed/content.npy" || failed=1

# ---- bad rows: how many are allowed, and where they are kept ----
for value in x 1x -1 % 1,5% 101% 0.00001% 1e9 2000000000; do
    check "--max-bad $value" 2 "max-bad must be rows, up to 1000000000, or a share of them like 1% or 0.5%, not $value" \
        refresh --max-bad "$value"
done
encode_short() { # WHAT.. : the news with one bad row of $lines
    $embsum encode --model "$dir/model" --news "$dir/short.tsv" --behaviors $tiny/behaviors.tsv --out "$dir/allowed" "$@"
}
check "a share that is enough" 0 "short.tsv:$lines" encode_short --max-bad 5%
check "a share that is not" 1 "short.tsv: 1 bad rows of $lines, at most 0 (2.5%) are allowed (--max-bad)" \
    encode_short --max-bad=2.5%
printf '%s\t%s\t3 columns instead of 8\tX1\tonly\tthree\n' "$dir/short.tsv" $lines >"$dir/wanted"
check "quarantine" 0 "1 bad rows are in $dir/kept" encode_short --max-bad 1 --quarantine "$dir/kept"
cmp "$dir/kept" "$dir/wanted" || failed=1
rm "$dir/kept"
check "quarantine of a run that fails" 1 "at most 0 are allowed" encode_short --quarantine "$dir/kept"
cmp "$dir/kept" "$dir/wanted" || failed=1
check "quarantine of a refresh" 0 "" refresh --quarantine "$dir/kept" --quiet --no-promote
[ -f "$dir/kept" ] && [ ! -s "$dir/kept" ] || { echo "FAILED: a run without bad rows leaves no empty quarantine"; failed=1; }
check "quarantine that is the input" 1 "short.tsv is to be read" encode_short --quarantine "$dir/short.tsv"
check "quarantine that is no file" 1 "/dev/null is there and is no regular file" encode_short --quarantine /dev/null

# What a control byte hides in a row comes back by printf, and the repaired rows are taken.
printf 'X1\tsport\tgolf\tA\001 back\\slash\t\n' >"$dir/one"
cat $tiny/news.tsv "$dir/one" >"$dir/control.tsv"
check "quarantine of a control byte" 1 "at most 0" $embsum encode --model "$dir/model" --news "$dir/control.tsv" \
    --behaviors $tiny/behaviors.tsv --out "$dir/allowed" --quarantine "$dir/kept"
/usr/bin/printf '%b\n' "$(cut -f 4- "$dir/kept")" | cmp - "$dir/one" || failed=1

# ---- texts that come through a pipe, and texts that change while they are read ----
mkfifo "$dir/pipe"
cat $tiny/news.tsv >"$dir/pipe" &
check "news from a pipe" 0 "" $embsum encode --model "$dir/model" --news "$dir/pipe" --behaviors $tiny/behaviors.tsv \
    --out "$dir/allowed" --threads 1 --quiet
wait $!
cmp "$dir/plain/content.npy" "$dir/allowed/content.npy" && cmp "$dir/plain/user.npy" "$dir/allowed/user.npy" || failed=1
cp $tiny/news.tsv "$dir/news.tsv"
mkfifo "$dir/behaviors"
$embsum refresh --model "$dir/model" --news "$dir/news.tsv" --behaviors "$dir/behaviors" --store "$store" >"$dir/out" 2>&1 &
pid=$!
{ # the news have been read when the behaviours are opened
    cat $tiny/behaviors.tsv
    head -c 200 $tiny/news.tsv >"$dir/news.tsv"
} >"$dir/behaviors"
wait $pid
code=$?
[ $code = 1 ] && grep -q "refresh: .*news.tsv:[0-9]*: the file was cut short while it was in use" "$dir/out" &&
    [ "$(live)" = "$first" ] || { echo "FAILED: news cut short: exit $code"; cat "$dir/out"; failed=1; }

# Categories are those of the news, but for the items that have none; a folder without them is as good.
awk -F '\t' '$2 != "" { print $1 "\t" $2 }' $tiny/news.tsv | sort -u >"$dir/categories"
sort "$dir/plain/categories.tsv" | cmp - "$dir/categories" || failed=1
cp -r "$dir/plain" "$dir/bare"
rm "$dir/bare/categories.tsv"
check "import without categories" 0 "" $embsum import --in "$dir/bare" --store "lmdb:$dir/bare.store"
check "verify without categories" 0 "30 contents, 0 categories, .*all good" \
    $embsum generations verify --store "lmdb:$dir/bare.store"
{ cat $tiny/news.tsv; printf 'X1\ta\001b\tc\td\te\tf\tg\th\n'; } >"$dir/control.tsv"
check "a category that cannot be one" 0 "X1 of line $lines is in no category: .* 0x01 at offset 1" $embsum refresh \
    --model "$dir/model" --news "$dir/control.tsv" --behaviors $tiny/behaviors.tsv --store "lmdb:$dir/bare.store"

# ---- import gives the same store as refresh ----
check "import" 0 '"state":"live"' $embsum import --in "$dir/plain" --store "$store"
second=$(live)
[ "$second" != "$first" ] || { echo "FAILED: import did not become live"; failed=1; }
check "verify the import" 0 "30 contents, 12 categories, .*all good" $embsum generations verify --store "$store"
check "rollback" 0 "$first is live" $embsum generations rollback --store "$store"
[ "$(live)" = "$first" ] || failed=1
check "promote" 0 "$second is live" $embsum generations promote "$second" --store "$store"
check "promote nothing" 1 "nothing" $embsum generations promote nothing --store "$store"
check "drop the live one" 1 "live" $embsum generations drop "$second" --store "$store"
check "drop" 0 "$first is dropped" $embsum generations drop "$first" --store "$store"
check "verify what was dropped" 1 "$first" $embsum generations verify "$first" --store "$store"
check "no promotion" 0 '"state":"ready"' refresh --no-promote
[ "$(live)" = "$second" ] || failed=1
for i in 1 2 3 4; do check "refresh $i" 0 "" refresh --full --keep 1 --quiet; done
retired=$($embsum generations list --json --store "$store" | grep -c '"state":"retired"')
[ "$retired" = 1 ] || { echo "FAILED: $retired retired generations instead of 1"; failed=1; }

damaged() { # NAME PATTERN FILE: the import of a copy with one file replaced fails
    check "$1" 1 "$2" $embsum import --in "$dir/copy" --store "$store"
    rm -rf "$dir/copy"
    cp -r "$dir/plain" "$dir/copy"
}
cp -r "$dir/plain" "$dir/copy"
head -c 5000 "$dir/plain/content.npy" >"$dir/copy/content.npy"
damaged "npy that was cut" "content.npy has 5000 bytes"
sed -i 1d "$dir/copy/content.ids"
damaged "an id is missing" "29 ids, but"
sed -i '2s/.*/'"$(sed -n 1p "$dir/plain/content.ids")/" "$dir/copy/content.ids"
damaged "an id twice" "content.ids:2: the id .* comes twice"
rm "$dir/copy/score_proj.npy"
damaged "no projection" "score_proj.npy: No such file"
printf '{"user":"nobody","summary":"x"}\n' >>"$dir/copy/summaries.jsonl"
damaged "a summary of nobody" "user nobody is not in user.ids"
sed -i '3s/^[^\t]*/nothing/' "$dir/copy/categories.tsv"
damaged "a category of nothing" "categories.tsv:3: content nothing is not in content.ids"
sed -i '2s/\t/ /' "$dir/copy/categories.tsv"
damaged "a category without a tab" "categories.tsv:2: an id, a tab and a category are expected"

# ---- one at a time; a refresh that was stopped ----
last=$(live)
{ cat $tiny/news.tsv; for i in $(seq 1 1000); do sed "s/^/D$i-/" $tiny/news.tsv; done; } | sort -u >"$dir/large.tsv"
$embsum refresh --model "$dir/model" --news "$dir/large.tsv" --behaviors $tiny/behaviors.tsv --store "$store" --threads 1 \
    >"$dir/long.out" 2>&1 &
pid=$!
for i in $(seq 1 $((200 * ${EMBSUM_SLOW:-1}))); do grep -q '^generation' "$dir/long.out" && break; sleep 0.05; done
check "another refresh" 3 "lock" refresh
sleep 0.4 # more is encoded than the hundred that may always go, of what takes seconds
kill -TERM $pid
wait $pid
code=$?
[ "$code" = 1 ] && grep -q "stopped by a signal" "$dir/long.out" && grep -q '"stopped":"signal"' "$dir/long.out" ||
    { echo "FAILED: SIGTERM: exit $code"; cat "$dir/long.out"; failed=1; }
[ "$(live)" = "$last" ] || { echo "FAILED: a stopped refresh changed the live generation"; failed=1; }
check "verify after the stop" 0 "all good" $embsum generations verify --store "$store"
check "so many that go are suspicious" 1 "max-shrink" refresh
check "refresh after the stop" 0 '"contents":30,.*"complete":true' refresh --max-shrink 100
check "verify after the refresh" 0 "30 contents" $embsum generations verify --store "$store"

exit $failed
