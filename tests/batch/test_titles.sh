#!/bin/sh
# Titles in the store are those of news.tsv after every refresh: the first, one in which a title, a text or nothing is new,
# one that takes up where another was killed, one by workers, one that follows; and those of titles.tsv after an import.
set -u
: "${BUILD:=build}"
embsum=$BUILD/embsum
dump=$BUILD/tests/trust/dump
dir=$(mktemp -d)
pids=
end() {
    for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
    rm -rf "$dir"
}
trap end EXIT
demo=deploy/demo
failed=0
cp $demo/news.tsv "$dir"
store=lmdb:$dir/store

# Without behaviours the default user is the only one, and a refresh takes moments.
refresh() { $embsum refresh --model $demo/model --news "$dir/news.tsv" --store "$store" "$@"; }
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
wanted() { awk -F '\t' '$4 != "" { print "t " $1 " " $4 }' "$dir/news.tsv" | LC_ALL=C sort >"$dir/wanted"; }
stored() { $dump "$store" | grep '^t ' | LC_ALL=C sort >"$dir/stored"; }
titles() { # NAME: of the news, no more and no fewer
    wanted
    stored
    cmp -s "$dir/wanted" "$dir/stored" || { echo "FAILED: $1: other titles"; diff "$dir/wanted" "$dir/stored" | head -n 5; failed=1; }
    check "$1: verify" 0 "$(wc -l <"$dir/wanted") titles, .*all good" $embsum generations verify --store "$store"
}
same() { # NAME: as after a first refresh of the same inputs
    $embsum refresh --model $demo/model --news "$dir/news.tsv" --store "lmdb:$dir/fresh" --quiet >/dev/null || failed=1
    $dump "lmdb:$dir/fresh" >"$dir/right"
    $dump "$store" >"$dir/got"
    cmp "$dir/right" "$dir/got" || { echo "FAILED: $1: not what a first refresh stores"; diff "$dir/right" "$dir/got" | head -n 5; failed=1; }
    rm -rf "$dir/fresh"
}
edit() { # AWK: change rows of the news, by a rename
    awk -F '\t' -v OFS='\t' "$1" "$dir/news.tsv" >"$dir/edited.tsv"
    mv "$dir/edited.tsv" "$dir/news.tsv"
}

# ---- what is new ----
check "first" 0 '"contents":288,"encoded":{"users":1,"contents":288,' refresh
titles "first"
check "nothing new" 0 '"encoded":{"users":0,"contents":0,"tokens":0}' refresh
titles "nothing new"
edit 'NR == 3 { $4 = "Another title" } NR == 5 { $5 = "Another abstract" } NR == 7 { $4 = "" } NR == 9 { next } { print }'
check "a title" 0 '"encoded":{"users":0,"contents":3,.*"deleted":{"users":0,"contents":1}' refresh
titles "a title"
same "a title"
edit 'NR == 7 { $4 = "A title at last" } { print } END { print "N9999", "x", "", "A new item\047s title", "", "", "", "" }'
check "one more" 0 '"encoded":{"users":0,"contents":2' refresh
titles "one more"
long=$(awk 'BEGIN { for (i = 0; i < 600; i++) printf "\303\251" }')
edit "NR == 2 { \$4 = \"$long\" } { print }"
check "a long title" 0 '"contents":1' refresh
stored
[ "$(awk -v id="$(sed -n 2p "$dir/news.tsv" | cut -f 1)" '$2 == id' "$dir/stored" | cut -d ' ' -f 3 | tr -d '\n' | wc -c)" = 1024 ] ||
    { echo "FAILED: a long title is not cut"; failed=1; }
edit 'NR == 2 { $4 = "Short" } { print }'
refresh --quiet >/dev/null

# ---- files of matrices ----
head -n 3 $demo/behaviors.tsv >"$dir/few.tsv"
check "encode" 0 "" $embsum encode --model $demo/model --news "$dir/news.tsv" --behaviors "$dir/few.tsv" --out "$dir/files"
check "import" 0 '"state":"live"' $embsum import --in "$dir/files" --store "$store"
titles "import"
printf 'N0\tof nothing\n' >>"$dir/files/titles.tsv"
check "a title of nothing" 1 "titles.tsv:[0-9]*: content N0 is not in content.ids" $embsum import --in "$dir/files" --store "$store"
rm "$dir/files/titles.tsv"
check "import without titles" 0 '"state":"live"' $embsum import --in "$dir/files" --store "$store"
check "no titles" 0 " 0 titles, .*all good" $embsum generations verify --store "$store"

[ -x /usr/bin/redis-server ] || { echo "SKIPPED: the rest needs redis-server"; [ $failed = 0 ] && exit 77; exit 1; }
redis-server --port 0 --unixsocket "$dir/redis.sock" --save '' --dir "$dir" >/dev/null &
pids=$!
cli() { redis-cli -s "$dir/redis.sock" "$@"; }
until cli ping >/dev/null 2>&1; do sleep 0.05; done
store=redis+unix:$dir/redis.sock

# ---- a generation that was made before there were titles ----
check "on Redis" 0 '"state":"live"' refresh
cli --raw --scan --pattern 'embsum:*:t:*' | tr '\n' '\0' | xargs -0 redis-cli -s "$dir/redis.sock" del >/dev/null
check "none are left" 0 " 0 titles, .*all good" $embsum generations verify --store "$store"
check "it gets them" 0 '"encoded":{"users":0,"contents":0,"tokens":0}.*"complete":true' refresh
titles "it gets them"
one=$(sed -n 1p "$dir/news.tsv" | cut -f 1)
cli set "embsum:$(cli get '{embsum}:live'):t:$one" "Of nobody" >/dev/null
check "a wrong one" 0 '"tokens":0}.*"complete":true' refresh
titles "a wrong one"

# ---- killed at each of its writes, alone and with a worker, and then undisturbed ----
$embsum worker --model $demo/model --store "$store" --threads 1 >"$dir/worker" 2>&1 &
worker=$!
pids="$pids $worker"
for how in --quiet --workers; do
    kills=0
    for at in 3 6 9 12 15 18 24 40; do
        # one whose title alone is wrong, one with a new title, one that goes, one that comes back
        cli set "embsum:$(cli get '{embsum}:live'):t:$one" "Of nobody" >/dev/null
        edit "NR == 4 { \$4 = \"Title $how $at\" } NR == 20 && $at % 2 { next } { print }
            NR == 30 && !($at % 2) { print \"C$how$at\", \"x\", \"\", \"Comes at $at\", \"\", \"\", \"\", \"\" }"
        LD_PRELOAD=$BUILD/tests/trust/kill_at.so KILL_AT=$at ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0 \
            $embsum refresh --model $demo/model --news "$dir/news.tsv" --store "$store" $how >/dev/null 2>&1
        [ $? = 137 ] && kills=$((kills + 1))
        cli del '{embsum}:lock' >/dev/null
        check "after a kill at $at" 0 '"complete":true' refresh $how
        wanted
        stored
        cmp -s "$dir/wanted" "$dir/stored" || { echo "FAILED: $how $at: other titles"; diff "$dir/wanted" "$dir/stored" | head -n 5; failed=1; }
    done
    [ $kills -ge 4 ] || { echo "FAILED: $how: $kills runs were killed, that is no test"; failed=1; }
    same "killed, $how"
    titles "killed, $how"
done
kill $worker

# ---- one that comes, as far as it comes before a kill, and is in no file any more when the next run begins ----
cp "$dir/news.tsv" "$dir/without.tsv"
for at in 18 19 20 21 22 23 24 25 26; do
    edit "{ print } END { print \"Z$at\", \"x\", \"\", \"Of nobody\", \"\", \"\", \"\", \"\" }"
    LD_PRELOAD=$BUILD/tests/trust/kill_at.so KILL_AT=$at ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0 \
        $embsum refresh --model $demo/model --news "$dir/news.tsv" --store "$store" --quiet >/dev/null 2>&1
    cli del '{embsum}:lock' >/dev/null
    cp "$dir/without.tsv" "$dir/news.tsv"
    refresh --quiet >/dev/null
done
titles "gone again"

# ---- followed ----
refresh --follow --quiet >"$dir/follow" 2>&1 &
follower=$!
pids="$pids $follower"
until [ -s "$dir/follow" ]; do sleep 0.05; done
edit 'NR == 6 { $4 = "Followed" } { print }'
for _ in $(seq 1 $((200 * ${EMBSUM_SLOW:-1}))); do
    wanted
    stored
    cmp -s "$dir/wanted" "$dir/stored" && break
    sleep 0.05
done
titles "followed"
kill $follower
wait $follower
exit $failed
