#!/bin/sh
# embsum doctor: each finding provoked, what it says to do, and the exit code. It leaves nothing behind, and ends in time.
set -u
: "${BUILD:=build}" "${EMBSUM_SLOW:=1}"
for need in redis-server python3; do
    command -v $need >/dev/null || { echo "SKIPPED: $need is not installed"; exit 77; }
done
embsum=$BUILD/embsum
dir=$(mktemp -d)
pids=
end() {
    for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
    rm -rf "$dir"
}
trap end EXIT
trap 'exit 1' INT TERM
tiny=tests/golden/tiny
failed=0
fail() {
    echo "FAILED: $*"
    failed=1
}

# doctor EXPECTED-CODE OPTIONS...: run; the findings are in $dir/out, a line of JSON each.
setting=EMBSUM_UNUSED=
doctor() {
    want=$1
    shift
    timeout $((20 * EMBSUM_SLOW)) env "$setting" "$embsum" doctor --json "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    [ $got = "$want" ] || { fail "doctor $*: exit $got (wanted $want)"; cat "$dir/out" "$dir/err"; }
    python3 - "$dir/out" <<'EOF' || fail "doctor $*: not findings as they should be"
import json, sys
for line in open(sys.argv[1]):
    finding = json.loads(line)
    assert finding["level"] in ("ok", "warning", "error") and finding["check"] and finding["found"], line
    assert (finding["level"] == "ok") == ("todo" not in finding), line
    assert "todo" not in finding or finding["todo"].endswith("."), line
EOF
}
with() { # NAME=VALUE EXPECTED-CODE OPTIONS...: the same with this in the environment
    setting=$1
    shift
    doctor "$@"
    setting=EMBSUM_UNUSED=
}
# found LEVEL CHECK PATTERN [ADVICE-PATTERN]: among the findings of the last run
found() {
    grep "\"level\":\"$1\",\"check\":\"$2\"" "$dir/out" | grep -q "\"found\":\"[^\"]*$3.*${4:-}" ||
        { fail "no finding '$1 $2 $3 ${4:-}' in:"; grep "$2\|error\|warning" "$dir/out"; }
}
not_found() { # LEVEL CHECK
    ! grep -q "\"level\":\"$1\",\"check\":\"$2" "$dir/out" || { fail "a finding $1 $2:"; grep "$2" "$dir/out"; }
}

# ---- usage, and a machine by itself ----
$embsum doctor --help >"$dir/out" && grep -q "usage: embsum doctor" "$dir/out" || fail "help"
$embsum doctor --nonsense >"$dir/out" 2>&1
[ $? = 2 ] || fail "usage"
doctor 0
for check in program library.jansson library.openblas library.lmdb library.hiredis library.libxxhash library.nettle \
    kernels.blas kernels.onednn kernels.scoring kernels.encoding kernels.cross machine.cpu machine.memory machine.descriptors; do
    grep -q "\"check\":\"$check\"" "$dir/out" || fail "nothing about $check"
done
found ok library.jansson "[0-9.]*, built with [0-9]"
found ok kernels.scoring "float32 [a-z0-9-]*, bfloat16 [a-z0-9-]*, int8 [a-z0-9-]*, float32+int8 [a-z0-9-]*; [1-9][0-9]* fast kernels agree"
not_found ok store
$embsum doctor >"$dir/out" || fail "for people"
grep -q '^ok       kernels.scoring        scoring: ' "$dir/out" || fail "the table"
grep -q 'checks are well, [0-9]* warnings, 0 errors' "$dir/out" || fail "the sum"
LC_ALL=C grep -q "$(printf '\033')" "$dir/out" && fail "colours in a file"

# A library that multiplies wrong, and a clock that is wrong, from before.
case ${MODE:-release} in asan | tsan) ;; *)
    cat >"$dir/wrong.c" <<'EOF'
#include <string.h>
#include <time.h>
void cblas_sgemm(int order, int a, int b, int m, int n, int k, float alpha, const float *x, int ldx, const float *y, int ldy,
    float beta, float *c, int ldc)
{
    (void)order, (void)a, (void)b, (void)k, (void)alpha, (void)x, (void)ldx, (void)y, (void)ldy, (void)beta, (void)n;
    for (int i = 0; i < m; i++)
        memset(c + i * ldc, 0, sizeof *c);
}
time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_sec -= 1000;
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}
EOF
    if ${CC:-cc} -shared -fPIC -O1 -o "$dir/wrong.so" "$dir/wrong.c" 2>/dev/null; then
        with LD_PRELOAD=$dir/wrong.so 1
        found error kernels.blas "is wrong on this processor" OPENBLAS_CORETYPE
    else
        echo "skipped: no compiler for the library that is wrong"
    fi
    ;;
esac

# ---- the daemon's configuration ----
doctor 1 --config config/embsum.json --store "lmdb:$dir/store" # which is not there
found ok config.file "every key is known"
found ok config.scoring "scores in float32"
printf '{"rank": {"users_maxx": 3}}' >"$dir/config.json"
doctor 1 --config "$dir/config.json"
found error config.file ".*in rank is no key" REFERENCE
printf '{"rank": ' >"$dir/config.json"
doctor 1 --config "$dir/config.json"
found error config.file "config.json:1"
doctor 1 --config "$dir/nowhere.json"
found error config.file "No such file"
printf '{"store": {"url": "lmdb:%s/store"}, "memory": {"limit_bytes": 17592186044416}, "server": {"token_file": "%s/none"}}' \
    "$dir" "$dir" >"$dir/config.json"
doctor 1 --config "$dir/config.json"
found warning config.memory "more than there is" limit_bytes
found error config.secrets "No such file"
# shellcheck disable=SC3045 # dash and bash have it
(ulimit -n 256 && doctor 1 --config config/embsum.json --store "lmdb:$dir/store"; exit $failed) || failed=1
found warning machine.descriptors "256 may be open" "LimitNOFILE"
with EMBSUM_RANK_USERS_MAX=many 1
found error config.environment "EMBSUM_RANK_USERS_MAX"

# ---- the embedded store ----
refresh() { $embsum refresh --quiet --model "$dir/model" --news $tiny/news.tsv --behaviors $tiny/behaviors.tsv --store "$1"; }
mkdir "$dir/model"
cp $tiny/config.json $tiny/model.safetensors $tiny/spiece.model "$dir/model"
doctor 1 --store "lmdb:$dir/lmdb"
found error store.reachable "no LMDB store" "Run embsum refresh"
[ -e "$dir/lmdb" ] && fail "a store was made"
refresh "lmdb:$dir/lmdb" >/dev/null || exit 1
doctor 0 --store "lmdb:$dir/lmdb" --model "$dir/model"
found ok store.server "LMDB 0"
found ok store.disk "one more generation needs"
found ok store.writable "can be written"
found ok store.lock "no writer"
found ok generation.users "all [0-9]* users are there"
found ok generation.contents "all 30 contents are there, the 30 that were read are good"
found ok generation.w "is good"
found ok generation.age "last up to date [0-9]* s ago"
found ok model.live "it made the live generation"
doctor 1 --store "lmdb:$dir/lmdb" --prefix 'no{}'
found error store.url prefix

# Somebody else's store, which may be read.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    chmod 755 "$dir" "$dir/lmdb"
    chmod 644 "$dir/lmdb/data.mdb"
    chmod 666 "$dir/lmdb/lock.mdb"
    setpriv --reuid=65534 --clear-groups "$embsum" doctor --json --store "lmdb:$dir/lmdb" >"$dir/out" 2>&1
    [ $? = 1 ] || fail "a store that may not be written"
    found error store.writable "Permission denied" "right to write"
    chmod 600 "$dir/lmdb/lock.mdb"
    setpriv --reuid=65534 --clear-groups "$embsum" doctor --json --store "lmdb:$dir/lmdb" >"$dir/out" 2>&1
    found error store.reachable "Permission denied" "owner"
else
    echo "skipped: not root, so nobody else"
fi

# A full disk, where a file system of one's own may be mounted.
cat >"$dir/full.sh" <<EOF
mount -t tmpfs -o size=3m none "$dir/disk" && cp "$dir"/lmdb/* "$dir/disk" && dd if=/dev/zero of="$dir/disk/rest" bs=4k 2>/dev/null
"$embsum" doctor --json --store "lmdb:$dir/disk" >"$dir/out"
EOF
mkdir "$dir/disk"
if unshare -rm true 2>/dev/null; then
    unshare -rm sh "$dir/full.sh"
    [ $? = 1 ] || fail "a full disk"
    found error store.disk "one more generation needs" "Make room"
    found warning store.filesystem tmpfs
else
    echo "skipped: no file system of one's own, so no full one"
fi

# ---- Redis ----
redis-server --port 0 --unixsocket "$dir/redis.sock" --save '' --appendonly no --dir "$dir" >"$dir/redis.log" &
redis=$!
pids=$redis
cli() { redis-cli -s "$dir/redis.sock" "$@" 2>/dev/null; }
until cli ping >/dev/null; do sleep 0.05; done
url="redis+unix:$dir/redis.sock"
doctor 0 --store "$url"
found warning generation.live "no generation is live" "Run embsum refresh"
refresh "$url" >/dev/null || exit 1
generation=$(cli get '{embsum}:live')
keys=$(cli dbsize)
doctor 0 --store "$url" --model "$dir/model"
found ok store.server "Redis [0-9.]*, master, [0-9]* keys"
found ok store.eviction noeviction
found warning store.memory "maxmemory is not set" "Set maxmemory"
found warning store.persistence "nothing is written to disk" appendonly
found ok store.clock "its clock is"
found ok store.writable "can be written"
found ok generation.live "$generation: [0-9]* users, 30 contents"
[ "$(cli dbsize)" = "$keys" ] || fail "something was left behind"
cli config set save '300 1' >/dev/null
cli config set maxmemory 1gb >/dev/null
doctor 0 --store "$url"
found ok store.persistence snapshots
found ok store.memory "of maxmemory 1.0 GiB are used"
cli config set save '' >/dev/null

# eviction and memory
cli config set maxmemory-policy allkeys-lru >/dev/null
doctor 1 --store "$url"
found error store.eviction "allkeys-lru" "maxmemory-policy noeviction"
cli config set maxmemory-policy noeviction >/dev/null
used=$(cli info memory | sed -n 's/^used_memory:\([0-9]*\).*/\1/p')
cli config set maxmemory $((used + 30000)) >/dev/null
doctor 1 --store "$url"
found error store.memory "one more generation needs" "Set maxmemory to"
cli config set maxmemory 1mb >/dev/null
doctor 1 --store "$url"
found error store.writable "OOM" "Raise maxmemory"
cli config set maxmemory 0 >/dev/null
cli config set maxmemory-policy volatile-lru >/dev/null # no key of ours goes, but one that expires
head -c 1000000 /dev/zero | cli -x set victim >/dev/null
cli pexpire victim 100000 >/dev/null
cli config set maxmemory $((used + 500000)) >/dev/null
cli set more 1 >/dev/null
cli config set maxmemory-policy noeviction >/dev/null
cli config set maxmemory 0 >/dev/null
cli del more victim >/dev/null
doctor 1 --store "$url"
found error store.evicted "[1-9][0-9]* keys* have been evicted" "refresh --full"
cli config resetstat >/dev/null

# passwords and rights
cli config set requirepass secret >/dev/null
doctor 1 --store "$url"
found error store.reachable NOAUTH "EMBSUM_STORE_PASSWORD"
with EMBSUM_STORE_PASSWORD=wrong 1 --store "$url"
found error store.reachable "WRONGPASS\|invalid" "EMBSUM_STORE_PASSWORD"
with EMBSUM_STORE_PASSWORD=secret 0 --store "$url"
redis-cli -s "$dir/redis.sock" -a secret config set requirepass '' >/dev/null 2>&1
cli acl setuser reader on '>word' '~*' +@read +ping +info +config\|get +select >/dev/null
with EMBSUM_STORE_PASSWORD=word 0 --store "$url?user=reader"
found warning store.writable "may read only" "another user"
cli acl setuser reader -info -config >/dev/null
with EMBSUM_STORE_PASSWORD=word 0 --store "$url?user=reader"
found warning store.rights "INFO" "INFO and CONFIG GET"
not_found error store

# a replica; who is not there; who hangs
cli replicaof 127.0.0.1 1 >/dev/null
doctor 1 --store "$url"
found error store.role "it is a replica" "master"
found error store.writable READONLY
cli replicaof no one >/dev/null
doctor 1 --store "redis+unix:$dir/nobody.sock"
found error store.reachable "No such file" "Start the server"
doctor 1 --store "rediss://somewhere:1/0"
found error store.url "unknown scheme"
kill -STOP $redis
start=$(date +%s)
doctor 1 --store "$url"
kill -CONT $redis
found error store.reachable "no answer within"
[ $(($(date +%s) - start)) -le $((8 * EMBSUM_SLOW)) ] || fail "a Redis that hangs holds it up"

# One that is far away: a proxy that lets each answer wait.
cat >"$dir/far.py" <<'EOF'
import socket, sys, threading, time
listener = socket.create_server(("127.0.0.1", 0))
open(sys.argv[1] + "/port", "w").write("%d\n" % listener.getsockname()[1])
def pump(source, target, wait):
    while data := source.recv(65536):
        time.sleep(wait)
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)
while True:
    client, _ = listener.accept()
    server = socket.socket(socket.AF_UNIX)
    server.connect(sys.argv[1] + "/redis.sock")
    threading.Thread(target=pump, args=(client, server, 0), daemon=True).start()
    threading.Thread(target=pump, args=(server, client, float(sys.argv[2])), daemon=True).start()
EOF
far() { # SECONDS: its URL is in $far
    rm -f "$dir/port"
    python3 "$dir/far.py" "$dir" "$1" &
    pids="$pids $!"
    until [ -s "$dir/port" ]; do sleep 0.05; done
    far="redis://127.0.0.1:$(cat "$dir/port")/0"
}
far 0.08
doctor 0 --store "$far"
found warning store.reachable "answers within [0-9.]* ms; store.command_timeout_ms is 200" "nearer"
found ok store.writable "can be written"
far 0.4
doctor 1 --store "$far"
found error store.reachable "too slow to be looked at"
not_found ok generation

if [ -e "$dir/wrong.so" ]; then
    with LD_PRELOAD=$dir/wrong.so 1 --store "$url"
    found warning store.clock "its clock is 1000 s" "Synchronise"
    found warning generation.age "from now"
fi

# ---- the live generation ----
content=$(cli --scan --pattern "embsum:$generation:c:*" | head -n 1)
cli copy "$content" kept >/dev/null
cli setrange "$content" 80 XXXX >/dev/null
doctor 1 --store "$url"
found error generation.contents "1 of 30 contents that were read are damaged, the first is ${content##*:}: check" "verify"
cli del "$content" >/dev/null
doctor 1 --store "$url"
found error generation.contents "29 of 30 contents are there" "refresh --full"
cli copy kept "$content" >/dev/null
cli copy "embsum:$generation:w" kept replace >/dev/null
cli setrange "embsum:$generation:w" 80 XXXX >/dev/null
doctor 1 --store "$url"
found error generation.w "W_s is damaged: check" rollback
cli del "embsum:$generation:w" >/dev/null
doctor 1 --store "$url"
found error generation.w "W_s is missing"
cli copy kept "embsum:$generation:w" >/dev/null
cli rename "embsum:$generation:u:" kept >/dev/null
doctor 1 --store "$url"
found warning generation.default "no default user"
cli rename kept "embsum:$generation:u:" >/dev/null
cli hset '{embsum}:generations' 20200101T000000Z-00000000 'building 1' >/dev/null
cli set "embsum:$generation:journal" 'uU1' >/dev/null
doctor 0 --store "$url"
found warning generation.leftovers "1 generations are half built .*20200101T000000Z-00000000" "drop"
found warning generation.journal "was killed" "Run embsum refresh"
cli set '{embsum}:lock' 7 PX 20000 >/dev/null
doctor 0 --store "$url"
found ok store.lock "token 7) for [0-9]* s more"
not_found warning generation.leftovers
cli set '{embsum}:lock' 7 >/dev/null
doctor 1 --store "$url"
found error store.lock "held without end" "Delete the key"
cli del '{embsum}:lock' "embsum:$generation:journal" >/dev/null
cli hdel '{embsum}:generations' 20200101T000000Z-00000000 >/dev/null
manifest=$(cli --raw get "embsum:$generation:manifest")
echo "$manifest" | sed 's/"\(created\|refreshed\)": *"20[0-9-]*T/"\1":"2026-01-01T/g' | tr -d '\n' | cli -x set "embsum:$generation:manifest" >/dev/null
doctor 0 --store "$url"
found warning generation.age "last up to date [0-9.]* days ago" "still runs"
cli set "embsum:$generation:manifest" '{"m": 1}' >/dev/null
doctor 1 --store "$url"
found error generation.live manifest rollback
cli del "embsum:$generation:manifest" >/dev/null
doctor 1 --store "$url"
found error generation.live "has no manifest"
printf %s "$manifest" | cli -x set "embsum:$generation:manifest" >/dev/null
doctor 0 --store "$url"
not_found error generation

# ---- the model ----
flip() { # FILE OFFSET VALUE: from the end
    python3 -c 'import sys
data = bytearray(open(sys.argv[1], "rb").read())
at = len(data) - int(sys.argv[2])
data[at:at + 4] = bytes.fromhex(sys.argv[3])
open(sys.argv[1], "wb").write(data)' "$@"
}
flip "$dir/model/model.safetensors" 8 0000803d
doctor 0 --store "$url" --model "$dir/model"
found warning model.live "is not what the live generation was made with" "copy it anew"
flip "$dir/model/model.safetensors" 8 0000c07f
doctor 1 --store "$url" --model "$dir/model"
found error model.weights "finite\|NaN" "anew"
cp $tiny/model.safetensors "$dir/model"
sed 's/"max_items"/"max_items" /' $tiny/config.json >"$dir/model/config.json"
doctor 0 --store "$url" --model "$dir/model"
found warning model.live "config.json or spiece.model are not"
cp $tiny/config.json "$dir/model"
head -c 1000 $tiny/spiece.model >"$dir/model/spiece.model"
doctor 1 --model "$dir/model"
found error model.tokenizer "spiece.model" "Copy spiece.model"
doctor 1 --model "$dir/nowhere"
found error model.weights "No such file"
exit $failed
