#!/bin/sh
# deploy/redis against a real Redis: the daemon and every command work as the users that users.acl makes, each with no more commands
# than it gives, and what is not theirs is refused.
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:=build}"
command -v redis-server >/dev/null && command -v redis-cli >/dev/null || {
    echo "skipped: redis-server or redis-cli is not installed"
    exit 77
}
embsum=$BUILD/embsum demo=deploy/demo model=deploy/demo/model
work=$(mktemp -d "${TMPDIR:-/tmp}/embsum-redis.XXXXXX") || exit 1
pids=
cleanup() {
    for pid in $pids; do kill "$pid" 2>/dev/null; done
    for pid in $pids; do wait "$pid" 2>/dev/null; done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 143' INT TERM
failed=0
fail() {
    echo "FAILED: $1"
    [ $# -lt 2 ] || sed 's/^/    /' "$2"
    failed=1
}
# until_true COMMAND...
until_true() {
    tries=$((200 * ${EMBSUM_SLOW:-1}))
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.05
    done
}

# ---- the server, as it is shipped, but for its addresses ----

mkdir "$work/secrets" "$work/data" && chmod 700 "$work/secrets"
sh deploy/redis/make-acl "$work/secrets" <deploy/redis/users.acl >"$work/users.acl" 2>/dev/null && fail "users without passwords"
for user in admin embsumd embsum feed; do echo "the password of $user" >"$work/secrets/redis_$user"; done
sh deploy/redis/make-acl "$work/secrets" <deploy/redis/users.acl >"$work/users.acl" || fail "make-acl"
grep -q 'the password' "$work/users.acl" && fail "a password in the ACL file" "$work/users.acl"
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
port=$(free_port)
redis-server deploy/redis/redis.conf --port "$port" --dir "$work/data" --aclfile "$work/users.acl" >"$work/redis.log" 2>&1 &
pids=$!
as() { # USER COMMAND...
    user=$1
    shift
    REDISCLI_AUTH="the password of $user" redis-cli -p "$port" --no-auth-warning --user "$user" "$@" 2>&1
}
pong() { [ "$(redis-cli -p "$port" --no-auth-warning --user probe --pass none ping)" = PONG ]; }
until_true pong || {
    fail "redis-server does not answer" "$work/redis.log"
    exit 1
}
[ "$(as admin config get maxmemory-policy | tail -n 1)" = noeviction ] || fail "the policy"
[ "$(as admin config get appendonly | tail -n 1)" = yes ] || fail "the log of writes"
grep -qi 'warning' "$work/redis.log" && grep -i 'warning' "$work/redis.log" | grep -viE 'overcommit|somaxconn|backlog|hugepage' &&
    fail "Redis warns of its settings" "$work/redis.log"

# ---- whoever writes ----

store() { echo "redis://$1@127.0.0.1:$port/0"; }
# expect WHAT PATTERN COMMAND...: ends with 0 and prints the pattern
expect() {
    what=$1 pattern=$2
    shift 2
    "$@" >"$work/out" 2>&1 || fail "$what: exit $?" "$work/out"
    grep -q -- "$pattern" "$work/out" || fail "$what: no $pattern" "$work/out"
}
batch() { # COMMAND OPTIONS...: of embsum, as its user
    command=$1
    shift
    "$embsum" "$command" --store "$(store embsum)" --password-file "$work/secrets/redis_embsum" "$@"
}
work() { # LOG: a worker, its id is in $pid
    "$embsum" worker --store "$(store embsum)" --password-file "$work/secrets/redis_embsum" --model $model --threads 1 --quiet >"$1" 2>&1 &
    pid=$!
    pids="$pid $pids"
}
cp $demo/news.tsv $demo/behaviors.tsv "$work"
texts="--quiet --model $model --news $work/news.tsv"
as admin config resetstat >/dev/null

expect "a refresh" '"state":"live"' batch refresh $texts --behaviors "$work/behaviors.tsv"
sed -i '1s/\t[^\t]*$/\tx/; 3d' "$work/news.tsv"
expect "a refresh inside the generation" '"deleted":{"users":0,"contents":1}' batch refresh $texts --behaviors "$work/behaviors.tsv"
expect "a click" '{"clicks":1}' batch refresh --click U35 N1014
expect "a click of a user who shall be fresh" '"state":"live"' batch refresh $texts --click U35 N1149
as feed xadd '{embsum}:clicks' '*' user U20 item N1014 | grep -q '^[0-9]*-[0-9]' || fail "a feed's click"
expect "a refresh by clicks" '"users":1,' batch refresh $texts
expect "a user who is forgotten" '"deleted":{"users":1' batch refresh $texts --forget U35
work "$work/worker"
worker=$pid
expect "a refresh by a worker" '"complete":true' batch refresh $texts --behaviors "$work/behaviors.tsv" --workers --full
kill "$worker"
wait "$worker" || fail "the worker ends with $?" "$work/worker"
grep -q '"units":[1-9]' "$work/worker" || fail "the worker had no unit" "$work/worker"
# A worker that died with a unit in hand: another one takes it.
work "$work/dead"
dead=$pid
batch refresh $texts --behaviors "$work/behaviors.tsv" --workers --full --silent 1 >"$work/out" 2>&1 &
run=$!
taken() { as admin xpending '{embsum}:work' workers | grep -q '^[1-9]'; }
until_true taken || fail "no unit was taken"
kill -9 "$dead"
work "$work/worker"
worker=$pid
wait "$run" || fail "a refresh of which a worker died" "$work/out"
kill "$worker"
wait "$worker" || fail "the second worker ends with $?" "$work/worker"

expect "the list" ' live ' batch generations list
retired=$(batch generations list | awk '$2 == "retired" { name = $1 } END { print name }')
expect "the check" 'all good' batch generations verify
expect "a promotion" "$retired is live" batch generations promote "$retired"
expect "a rollback" 'is live' batch generations rollback
expect "a dropped generation" "$retired is dropped" batch generations drop "$retired"
"$embsum" encode --quiet --model $model --news $demo/news.tsv --behaviors $demo/behaviors.tsv --out "$work/matrices" >/dev/null || fail "encode"
expect "an import" '"state":"live"' batch import --quiet --in "$work/matrices"

# granted USER: the commands of its line, those in brackets too
granted() { sed -n "s/^user $1 //p" "$work/users.acl" | tr '() ' '\n\n\n' | sed -n 's/^+//p' | sort -u; }
# used: those that Redis has counted, the administrator's aside
used() {
    as admin info commandstats | sed -n 's/^cmdstat_\([^:]*\):calls=[1-9].*/\1/p' |
        grep -vE '^(acl|auth|hello|command|info|config|client)(\||$)' | sort -u
}
# exactly USER RESERVED: what it may is what was used, but for the reserved ones
exactly() {
    granted "$1" >"$work/granted"
    { used; echo "$2" | tr ' ' '\n'; } | sort -u >"$work/used"
    more=$(comm -23 "$work/granted" "$work/used")
    [ -z "$more" ] || fail "$1 may $(echo $more), and nobody needs it"
}
refusals() {
    as admin acl log >"$work/acl_log"
    grep -q . "$work/acl_log" && fail "Redis has refused $1 something" "$work/acl_log"
    as admin acl log reset >/dev/null
}
refusals embsum
# reserved: embsum doctor's, and the figures of a shadow generation
exactly embsum "ping info config|get hget hincrby"

# ---- the daemon ----

as admin config resetstat >/dev/null
http=$(free_port) admin_http=$(free_port)
"$BUILD/embsumd" --store "$(store embsumd)" --listen "127.0.0.1:$http" --set "store.password_file=$work/secrets/redis_embsumd" \
    --set "admin.listen=127.0.0.1:$admin_http" --set memory.limit_bytes=1048576 >"$work/embsumd.log" 2>&1 &
daemon=$!
pids="$daemon $pids"
url=http://127.0.0.1:$http
until_true curl -sf "$url/readyz" || fail "embsumd does not get ready" "$work/embsumd.log"
expect "a ranking" '"ranking":\[{"id"' curl -sf "$url/rank?user=U20&candidates=N1183,N1014"
expect "the whole catalogue" '"ranking":\[{"id"' curl -sf "$url/rank?user=U20&top_k=3"
expect "a category" '"ranking":\[{"id"' curl -sf "$url/rank?user=U20&top_k=3&category=football"
expect "a summary" '"summary":"' curl -sf "$url/users/U20"
expect "the generations" '"state":"live"' curl -sf "http://127.0.0.1:$admin_http/generations"
# reserved: the figures of a shadow generation
exactly embsumd "ping eval hget hset hincrby del"
now=$(batch generations list | awk '$2 == "live" { print $1 }')
expect "a change" '"state":"live"' batch refresh $texts --click U20 N1149
sleep 1
expect "a ranking behind it" '"ranking":\[{"id"' curl -sf "$url/rank?user=U20&candidates=N1183,N1014"
expect "a generation that comes" '"state":"live"' batch refresh $texts --behaviors "$work/behaviors.tsv" --full
other() { ! curl -sf "$url/readyz" | grep -q "$now"; }
until_true other || fail "embsumd does not follow" "$work/embsumd.log"
expect "a ranking on it" '"ranking":\[{"id"' curl -sf "$url/rank?user=U20&candidates=N1183,N1014"
refusals embsumd
grep -E 'NOPERM|"kind":"noauth"|"level":"error"' "$work/embsumd.log" && fail "embsumd complains" "$work/embsumd.log"

# ---- what is refused ----

# refuses USER COMMAND...
refuses() {
    answer=$(as "$@")
    case $answer in
    NOPERM* | *"can't run this command"* | *"can't access at least one of the keys"*) ;;
    *) fail "$(echo "$@") is not refused: $answer" ;;
    esac
}
generation=$(as admin get '{embsum}:live')
as admin set other:key 1 >/dev/null
as admin set embsum:shared:h:U20 1 >/dev/null
for user in embsumd embsum feed; do
    refuses "$user" flushall
    refuses "$user" keys '*'
    refuses "$user" config set maxmemory-policy allkeys-lru
    refuses "$user" acl list
    refuses "$user" shutdown nosave
    refuses "$user" replicaof no one
    refuses "$user" get other:key
    refuses "$user" script flush
done
refuses embsumd set '{embsum}:live' nobody
refuses embsumd set "embsum:$generation:u:U20" nothing
refuses embsumd unlink "embsum:$generation:u:U20"
refuses embsumd get embsum:shared:h:U20
refuses embsumd xadd '{embsum}:clicks' '*' user U1 item N1
refuses embsumd xrange '{embsum}:clicks' - +
refuses embsumd hset '{embsum}:generations' "$generation" 'retired 1'
refuses embsumd del '{embsum}:live'
refuses embsumd eval "return redis.call('SET', '{embsum}:live', 'x')" 0
refuses embsumd eval "return redis.call('HSET', KEYS[1], 'x', 'live 1')" 1 '{embsum}:generations'
refuses embsumd eval "return redis.call('GET', KEYS[1])" 1 embsum:shared:h:U20
refuses embsum set other:key 2
refuses embsum eval "return redis.call('SET', 'other:key', '2')" 0
refuses embsum eval "return redis.call('FLUSHALL')" 0
refuses feed xrange '{embsum}:clicks' - +
refuses feed xadd '{embsum}:work' '*' unit x
refuses feed get '{embsum}:live'
refuses probe get '{embsum}:live'
case $(redis-cli -p "$port" get '{embsum}:live') in NOAUTH*) ;; *) fail "whoever connects may read" ;; esac
case $(REDISCLI_AUTH=wrong redis-cli -p "$port" --no-auth-warning --user embsumd ping 2>&1) in
*WRONGPASS*) ;; *) fail "a wrong password is taken" ;;
esac
# The one thing that the daemon writes.
shadow="redis.call('HGET', KEYS[1], ARGV[1]); redis.call('DEL', KEYS[2]); redis.call('HSET', KEYS[2], 'live', ARGV[1])
return redis.call('HINCRBY', KEYS[2], 'requests', 2)"
[ "$(as embsumd eval "$shadow" 2 '{embsum}:generations' "{embsum}:$generation:shadow" "$generation")" = 2 ] || fail "sums of a shadow generation"

# A wrong user's refresh says so.
"$embsum" refresh --store "$(store embsumd)" --password-file "$work/secrets/redis_embsumd" $texts >"$work/out" 2>&1 &&
    fail "the daemon's user refreshes" "$work/out"
grep -q NOPERM "$work/out" || fail "a refusal is not named" "$work/out"

[ "$failed" = 0 ] && echo "the settings and users of deploy/redis work"
exit "$failed"
