#!/bin/sh
# Training over ranks: 1, 2 and 4 of them with the same batch give the same losses; a run that was killed or stopped goes on
# bit for bit; an error or a signal that only one rank meets ends all of them. On a few impressions of the demo, all on this
# machine: the ranks speak through shared memory and over the loopback.
set -u
: "${BUILD:=build}" "${MODE:=release}"
command -v mpirun >/dev/null || { echo "SKIPPED: openmpi-bin is not installed, training on several ranks was NOT tested"; exit 77; }
[ "$MODE" = tsan ] && { echo "SKIPPED: Open MPI is not built for ThreadSanitizer"; exit 77; }
embsum=$BUILD/embsum demo=deploy/demo
dir=$(mktemp -d)
pid='' limit='' transport=self,vader count=10
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || :; rm -rf "$dir"' EXIT
failed=0
fail() {
    echo "FAILED: $1"
    failed=1
}
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:fast_unwind_on_malloc=0"
export LSAN_OPTIONS="${LSAN_OPTIONS:-}:suppressions=$PWD/tests/lib/mpi.supp:print_suppressions=0"

# mpi ARGUMENTS...: mpirun in place of this shell, on this machine and no other, as root and with few cores as well
mpi() {
    exec $limit mpirun --allow-run-as-root --oversubscribe --bind-to none --mca plm isolated --mca oob_tcp_if_include lo \
        --mca pml ob1 --mca btl $transport --mca btl_tcp_if_include lo --mca btl_vader_single_copy_mechanism none "$@"
}
# command OUT: prints what each rank runs, $count steps of 8 examples
command() {
    echo "$embsum train --model $dir/model --news $demo/news.tsv --behaviors $dir/behaviors.tsv \
        --summaries $demo/summaries.jsonl --out $dir/$1 --epochs 999 --steps $count --batch 8 --micro-batch 1 --rate 2e-3 \
        --seed 5 --threads 1 --checkpoint-every 3"
}
# become RANKS OUT OPTIONS...
become() {
    ranks=$1 out=$2
    shift 2
    # shellcheck disable=SC2046 # words of a command
    mpi -n "$ranks" $(command "$out") "$@"
}
# The same with an end: nothing here takes more than seconds, unless ranks wait for each other for ever.
train() {
    (limit='timeout -k 5 120' && become "$@") >"$dir/log" 2>&1
}
# refused WHAT TEXT PART : PART...: a job of different ranks fails, and says so
refused() {
    what=$1 text=$2
    shift 2
    (limit='timeout -k 5 60' && mpi "$@") >"$dir/log" 2>&1
    code=$?
    [ "$code" = 1 ] && grep -q "$text" "$dir/log" || fail "$what: exit $code, $(cat "$dir/log")"
    [ "$(grep -c '^embsum train: ' "$dir/log")" = 1 ] || fail "$what: not one message, $(cat "$dir/log")"
}
steps() {
    [ ! -e "$dir/$1/train.jsonl" ] && echo 0 || wc -l <"$dir/$1/train.jsonl"
}
# started STEPS RANKS OUT OPTIONS...: in the background, until so many steps are done
started() {
    many=$1
    shift
    become "$@" >"$dir/log" 2>&1 &
    pid=$!
    for _ in $(seq 1 1200); do
        [ "$(steps "$2")" -ge "$many" ] && break
        sleep 0.05
    done
}
# ended: the exit code of it, 124 if it does not end
ended() {
    for _ in $(seq 1 1200); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    if kill -9 "$pid" 2>/dev/null; then code=124; else wait "$pid"; code=$?; fi
    pid=''
}
# same A B: the same model and the same losses, bit for bit
same() {
    cmp "$dir/$1/model.safetensors" "$dir/$2/model.safetensors" || fail "$2: another model than $1"
    sed 's/,"tokens_per_second.*//' "$dir/$1/train.jsonl" >"$dir/expected"
    sed 's/,"tokens_per_second.*//' "$dir/$2/train.jsonl" | cmp "$dir/expected" - || fail "$2: another train.jsonl than $1"
}
# near A B: every step's loss within 1e-4, relative
near() {
    paste "$dir/$1/train.jsonl" "$dir/$2/train.jsonl" | sed 's/[^\t]*"loss":\([0-9.e+-]*\)[^\t]*/\1/g' |
        awk -v name="$1 and $2" '{ d = ($1 - $2) / $1; d = d < 0 ? -d : d; if (d > worst) worst = d }
            END { printf "%s: %d steps, losses differ by at most %.1e\n", name, NR, worst; exit !(NR == 10 && worst <= 1e-4) }' ||
        fail "the losses of $1 and $2"
}

# ---- the ranks alone ----
for n in 2 3 4; do
    (limit='timeout -k 5 60' && mpi -n $n "$BUILD/tests/batch/test_ranks") >"$dir/log" 2>&1 ||
        fail "test_ranks on $n: $(cat "$dir/log")"
done
(limit='timeout -k 5 60' && mpi -n 3 "$BUILD/tests/batch/test_train_job") >"$dir/log" 2>&1 ||
    fail "test_train_job on 3: $(cat "$dir/log")"

# ---- the same curve ----
$embsum init --quiet --config $demo/model/config.json --vocab $demo/model/spiece.model --out "$dir/model" --seed 2 || exit 1
# Short histories: a step is to take a moment, not seconds, under the sanitizers too.
awk -F '\t' 'split($4, h, " ") <= 6 && n++ < 16' $demo/behaviors.tsv >"$dir/behaviors.tsv"
# shellcheck disable=SC2046 # words of a command
$(command alone) --quiet || fail "without mpirun: exit $?"
for n in 1 2 4; do
    train $n ranks$n || fail "$n ranks: exit $?, $(cat "$dir/log")"
    [ $n = 1 ] || grep -q "^$n ranks, $n workers" "$dir/log" || fail "$n ranks: $(cat "$dir/log")"
    [ "$(grep -c ' impressions, ' "$dir/log")" = 1 ] || fail "$n ranks: not rank 0 alone speaks: $(cat "$dir/log")"
    near alone ranks$n
done
same alone ranks1
transport=self,tcp
train 2 tcp || fail "over TCP: exit $?, $(cat "$dir/log")"
transport=self,vader
same ranks2 tcp
# shellcheck disable=SC2046 # words of a command
(limit='timeout -k 5 120' && mpi -n 1 $(command mixed) : -n 1 $(command mixed/not/there | sed 's/threads 1/threads 3/')) \
    >"$dir/log" 2>&1 || fail "1 and 3 threads: exit $?, $(cat "$dir/log")"
grep -q "^2 ranks, 4 workers" "$dir/log" || fail "1 and 3 threads: $(cat "$dir/log")"
near alone mixed

# ---- killed, stopped, resumed ----
started 5 2 killed
rank=$(pgrep -P "$pid" | tail -n 1)
kill -9 "$rank"
ended
[ "$code" != 0 ] && [ "$code" != 124 ] || fail "a killed rank: exit $code, $(cat "$dir/log")"
[ "$(steps killed)" -lt 10 ] || fail "it was done before it was killed: the test shows nothing"
# The second rank sees another folder: the checkpoint is rank 0's affair.
# shellcheck disable=SC2046 # words of a command
(limit='timeout -k 5 120' && mpi -n 1 $(command killed) --resume : -n 1 $(command killed/not/there) --resume) \
    >"$dir/log" 2>&1 || fail "resume: exit $?, $(cat "$dir/log")"
same ranks2 killed

# stopped SIGNAL OUT: mpirun has had it; all ranks end at one step, with a checkpoint of it
stopped() {
    kill -"$1" "$pid"
    ended
    [ "$code" = 1 ] && grep -q "stopped by a signal after step $(steps "$2") of" "$dir/log" ||
        fail "SIG$1: exit $code, $(cat "$dir/log")"
}
started 4 2 stopped
stopped USR1 stopped
cp -r "$dir/stopped" "$dir/other"
train 2 stopped --resume || fail "resume after SIGUSR1: exit $?, $(cat "$dir/log")"
same ranks2 stopped
# with other ranks it goes on as well, and says what that means
train 4 other --resume || fail "resume on 4 ranks: exit $?, $(cat "$dir/log")"
grep -q "4 workers, not the 2 of the checkpoint" "$dir/log" || fail "resume on 4 ranks: $(cat "$dir/log")"
near alone other
# mpirun waits so many seconds, hands SIGTERM on, waits again and kills: its one second may be short on a busy machine
export OMPI_MCA_odls_base_sigkill_timeout=4
count=100000
started 2 2 ended
stopped TERM ended
unset OMPI_MCA_odls_base_sigkill_timeout
count=10
head -c 400 "$dir/ended/train.safetensors" | grep -aq "\"step\":\"$(steps ended)\"" ||
    fail "SIGTERM: no checkpoint of step $(steps ended)"

# ---- what one rank meets ends all ----
sed '17s/\t/ /g' $demo/news.tsv >"$dir/bad.tsv"
good=$(command x) full=$(command full) bad=$(command x | sed "s,$demo/news.tsv,$dir/bad.tsv,")
none=$(command x | sed "s,$dir/behaviors.tsv,$dir/none.tsv,")
# shellcheck disable=SC2086 # words of a command
{
    refused "bad news on a rank" "embsum train: rank 1: .*bad.tsv: 1 bad rows" -n 1 $good : -n 1 $bad
    refused "no behaviors on a rank" "embsum train: rank 2: .*none.tsv" -n 2 $good : -n 1 $none
    refused "another rate on a rank" "rank 1: not rank 0's run" -n 1 $good : -n 1 $good --weight-decay 0.1
    refused "resume on one rank alone" "rank 1: not rank 0's run" -n 1 $good : -n 1 $good --resume
    mkdir "$dir/full" && ln -s /dev/full "$dir/full/train.jsonl"
    refused "rank 0 cannot write" "train.jsonl" -n 1 $full : -n 1 $full
}
exit "$failed"
