#!/bin/sh
# embsum train under kill -9 and on a full disk. Killed at random moments and in the middle of writing a checkpoint, again
# and again, then resumed: model, moments and train.jsonl of the undisturbed run, byte for byte, and nothing left lying
# about. No room for a checkpoint: an error that names the file, exit code 1, the old checkpoint as it was; once there is
# room, the resumed run ends as the undisturbed one. EMBSUM_SEED repeats a run's moments.
set -u
cd "$(dirname "$0")/../.." || exit 1
# Where it may, it goes on in a mount namespace of its own, for a small disk to fill.
if [ -z "${EMBSUM_OWN_MOUNTS:-}" ] && unshare -rm mount -t tmpfs none /mnt 2>/dev/null; then
    EMBSUM_OWN_MOUNTS=1 exec unshare -rm sh "tests/batch/$(basename "$0")"
fi
: "${BUILD:=build}" "${EMBSUM_SEED:=$(date +%s)}"
embsum=$(realpath "$BUILD")/embsum demo=$(pwd)/deploy/demo
dir=$(mktemp -d)
pid=''
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || :; rm -rf "$dir"' EXIT
failed=0
fail() {
    echo "FAILED: $*"
    failed=1
}
echo "EMBSUM_SEED=$EMBSUM_SEED"

"$embsum" init --quiet --config "$demo/model/config.json" --vocab "$demo/model/spiece.model" --out "$dir/model" --seed 2 || exit 1
head -n 20 "$demo/behaviors.tsv" >"$dir/behaviors.tsv"

# become OUT: 24 steps of 4 examples, a checkpoint after each, in place of this shell, so that a signal reaches the program
become() {
    exec "$embsum" train --resume --model "$dir/model" --news "$demo/news.tsv" --behaviors "$dir/behaviors.tsv" \
        --summaries "$demo/summaries.jsonl" --out "$1" --epochs 20 --steps 24 --batch 4 --rate 2e-3 --seed 5 --threads 2 \
        --quiet --checkpoint-every 1
}
# same OUT: it ended as the undisturbed run did, and left nothing else
same() {
    for file in model.safetensors train.safetensors config.json spiece.model; do
        cmp "$dir/whole/$file" "$1/$file" || fail "$1: another $file"
    done
    sed 's/,"tokens_per_second.*//' "$1/train.jsonl" >"$dir/got"
    sed 's/,"tokens_per_second.*//' "$dir/whole/train.jsonl" | cmp - "$dir/got" || fail "$1: another train.jsonl"
    [ "$(ls -A "$1")" = "$(ls -A "$dir/whole")" ] || fail "$1: left lying about: $(ls -A "$1")"
}
# loads OUT: the model there, if there is one yet, is a model
loads() {
    [ ! -e "$1/model.safetensors" ] || "$embsum" eval --quiet --model "$1" --news "$demo/news.tsv" \
        --behaviors "$dir/behaviors.tsv" --limit 1 >"$dir/log" 2>&1 || fail "$1 is no model: $(cat "$dir/log")"
}
steps() {
    [ ! -e "$1/train.jsonl" ] && echo 0 || wc -l <"$1/train.jsonl"
}

(become "$dir/whole") || fail "train: exit $?"
[ "$(steps "$dir/whole")" = 24 ] || fail "the undisturbed run has not 24 steps"

# ---- kill -9 ----
# unfinished OUT: $found = what is being written there, or has been left by a writer that was killed
unfinished() {
    found=''
    for name in "$1"/*.unfinished-*; do
        [ ! -e "$name" ] || found="$found $name"
    done
}
# Each kill comes 0 to 2 steps after the one before and a random moment later, up to 0.15 s, in which the program may just
# be starting; two of three then wait until a model or checkpoint is being written that was not left by a kill before.
kills=0 torn=0
awk -v seed="$EMBSUM_SEED" 'BEGIN {
    srand(seed)
    for (i = 0; i < 8; i++) print int(3 * rand()), 0.15 * rand() }' >"$dir/moments"
while read -r more pause <&3; do
    unfinished "$dir/killed"
    before=$found
    goal=$(($(steps "$dir/killed") + more))
    (become "$dir/killed") 3<&- &
    pid=$!
    while kill -0 "$pid" 2>/dev/null && [ "$(steps "$dir/killed")" -lt "$goal" ]; do sleep 0.01; done
    sleep "$pause"
    if [ $((kills % 3)) != 0 ]; then
        while kill -0 "$pid" 2>/dev/null; do
            unfinished "$dir/killed"
            case ${found#"$before"} in *safetensors*) break ;; esac
        done
    fi
    kill -9 "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    [ $? = 137 ] && kills=$((kills + 1))
    pid=''
    unfinished "$dir/killed"
    [ -z "$found" ] || [ "$found" = "$before" ] || torn=$((torn + 1))
    loads "$dir/killed"
done 3<"$dir/moments"
echo "killed $kills times, $torn times in the middle of a checkpoint, at last after step $(steps "$dir/killed") of 24"
[ "$kills" = 8 ] && [ "$torn" -ge 2 ] || fail "too few of these kills show anything"
(become "$dir/killed") || fail "resume: exit $?"
same "$dir/killed"

# ---- no room ----
(become "$dir/part") &
pid=$!
while kill -0 "$pid" 2>/dev/null && [ "$(steps "$dir/part")" -lt 8 ]; do sleep 0.05; done
kill -9 "$pid"
wait "$pid" 2>/dev/null
pid=''
rm -f "$dir"/part/*.unfinished-* # else a full disk would get room when the next run removes them
[ -e "$dir/part/train.safetensors" ] && [ "$(steps "$dir/part")" -lt 24 ] || fail "no run to go on from"

# refused OUT LIMIT NAME WHY: with files of at most LIMIT blocks of 512 bytes it cannot go on, says which file it could not
# write, and the last checkpoint stays as it was
refused() {
    cp "$1/train.safetensors" "$dir/old"
    (
        ulimit -f "$2"
        become "$1"
    ) 2>"$dir/message"
    code=$?
    [ "$code" = 1 ] && grep -q "^embsum train: write $1/$3: $4\$" "$dir/message" || fail "$3: exit $code, $(cat "$dir/message")"
    sed 's/^/    /' "$dir/message"
    cmp "$dir/old" "$1/train.safetensors" || fail "$3: the old checkpoint is no longer what it was"
    unfinished "$1"
    [ -z "$found" ] || fail "$3: left behind:$found"
    loads "$1"
}

# Half the model's size stops the model; two thirds of the checkpoint's, which holds three times as much, only that.
model_room=$(($(stat -c %s "$dir/part/model.safetensors") / 2))
checkpoint_room=$(($(stat -c %s "$dir/part/train.safetensors") * 2 / 3))
cp -r "$dir/part" "$dir/limited"
refused "$dir/limited" $((model_room / 512)) model.safetensors "File too large"
refused "$dir/limited" $((checkpoint_room / 512)) train.safetensors "File too large"
(become "$dir/limited") || fail "resume without the limit: exit $?"
same "$dir/limited"

if [ -n "${EMBSUM_OWN_MOUNTS:-}" ]; then
    # fill BYTES: the disk, but for so many
    fill() { head -c $(($(df -B1 --output=avail "$dir/disk" | tail -n 1) - $1)) /dev/zero >"$dir/disk/filler"; }
    mkdir "$dir/disk"
    mount -t tmpfs -o size=48m none "$dir/disk"
    cp -r "$dir/part" "$dir/disk/run"
    fill 0
    refused "$dir/disk/run" unlimited spiece.model "No space left on device"
    rm "$dir/disk/filler"
    fill $model_room
    refused "$dir/disk/run" unlimited model.safetensors "No space left on device"
    rm "$dir/disk/filler"
    fill $checkpoint_room
    refused "$dir/disk/run" unlimited train.safetensors "No space left on device"
    rm "$dir/disk/filler"
    (become "$dir/disk/run") || fail "resume with space again: exit $?"
    same "$dir/disk/run"
    umount "$dir/disk"
else
    echo "no mount namespace here: the file size limit alone stood for the full disk"
fi
exit $failed
