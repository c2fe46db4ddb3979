#!/bin/sh
# embsum rank beside the daemon on the same store: the same JSON, byte for byte (in float32), over HTTP; what a person is shown;
# what a terminal never gets to see.
set -u
: "${BUILD:=build}"
for need in redis-server curl python3; do
    command -v $need >/dev/null || { echo "SKIPPED: $need is not installed"; exit 77; }
done
embsum=$BUILD/embsum
dir=$(mktemp -d)
pids=
end() {
    for pid in $pids; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; done
    rm -rf "$dir"
}
trap end EXIT
trap 'exit 1' INT TERM
demo=deploy/demo
failed=0

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
fail() {
    echo "FAILED: $*"
    failed=1
}

redis-server --port 0 --unixsocket "$dir/redis.sock" --save '' --appendonly no --dir "$dir" >"$dir/redis.log" &
pids=$!
cli() { redis-cli -s "$dir/redis.sock" "$@"; }
until cli ping >/dev/null 2>&1; do sleep 0.05; done

# ---- usage ----
url="redis+unix:$dir/redis.sock"
rank() { $embsum rank --store "$url" "$@"; }
check "no user" 2 "missing: --user" rank
check "an empty user" 2 "an id" rank --user ''
check "an empty candidate" 2 "candidates: an id" rank --user U1 --candidates N1,,N2
check "twice" 2 "not both" rank --user U1 --candidates N1 --candidates-file x
check "top-k 0" 2 "top-k must be" rank --user U1 --top-k 0
check "nothing is live" 1 "no generation is live" rank --user U1
check "no store" 1 "there is no LMDB store" $embsum rank --store "lmdb:$dir/none" --user U1
[ -e "$dir/none" ] && fail "a store was made"
check "nobody answers" 1 "Redis at" $embsum rank --store "redis+unix:$dir/nobody.sock" --user U1

# ---- beside the daemon ----
refresh="$embsum refresh --quiet --model $demo/model --news $demo/news.tsv --behaviors $demo/behaviors.tsv"
$refresh --store "$url" >"$dir/refresh.out" || exit 1
$refresh --store "lmdb:$dir/store" >/dev/null || exit 1
start_daemon() { # URL NAME: its address is in $address
    : >"$dir/$2.log"
    "$BUILD/embsumd" --store "$1" --listen 127.0.0.1:0 2>"$dir/$2.log" &
    pids="$pids $!"
    for _ in $(seq 600); do
        address=$(sed -n 's/.*"msg": *"listening".*"address": *"\([^"]*\)".*/\1/p' "$dir/$2.log")
        [ -n "$address" ] && return
        sleep 0.1
    done
    cat "$dir/$2.log"
    exit 1
}
ask() { curl -s "http://$address/rank" -H 'Content-Type: application/json' -d "$1"; }
# Titles are told by /rank where they are asked for, and here always: they have a test of their own below.
untitled() { sed 's/,"title":"[^"\\]*\(\\.[^"\\]*\)*"//g'; }
# same NAME BODY OPTIONS...: the daemon's answer is the command's
same() {
    name=$1 body=$2
    shift 2
    ask "$body" >"$dir/want"
    echo >>"$dir/want"
    $embsum rank --store "$store" --json "$@" | untitled >"$dir/got"
    cmp -s "$dir/want" "$dir/got" || { fail "$name: not the daemon's answer"; cut -c1-300 "$dir/want" "$dir/got"; }
}
contents=$(cut -f1 $demo/news.tsv | tr '\n' ' ')
some=$(echo "$contents" | tr ' ' '\n' | awk 'NF && NR % 5 == 1' | paste -sd,)
quoted=$(echo "$some" | sed 's/,/","/g')
users=$(cut -f2 $demo/behaviors.tsv | sort -u | awk 'NR % 12 == 1')
for store in "$url" "lmdb:$dir/store"; do
    start_daemon "$store" "${store%%:*}"
    [ "$store" = "$url" ] || users=$(echo "$users" | head -n 2)
    for user in $users; do
        same "$user" "{\"user\":\"$user\",\"candidates\":[\"$quoted\"],\"top_k\":10}" --user "$user" --candidates "$some"
        same "$user, everything" "{\"user\":\"$user\",\"top_k\":288}" --user "$user" --top-k 288
    done
    same "explain" "{\"user\":\"U35\",\"candidates\":[\"$quoted\"],\"top_k\":7,\"explain\":true}" \
        --user U35 --candidates "$some" --top-k 7 --explain
    same "an unknown user" "{\"user\":\"nobody\",\"candidates\":[\"$quoted\"],\"top_k\":10}" --user nobody --candidates "$some"
    same "missing and twice" '{"user":"U35","candidates":["none2","N1014","none1","N1014","N1001"],"top_k":10}' \
        --user U35 --candidates none2,N1014,none1,N1014,N1001
    same "nothing is there" '{"user":"U35","candidates":["none"],"top_k":10}' --user U35 --candidates none
    printf 'N1014\r\n\nnone1\nN1001' >"$dir/list"
    same "a file" '{"user":"U35","candidates":["N1014","none1","N1001"],"top_k":10}' --user U35 --candidates-file "$dir/list"
done
rank --user U35 --candidates-file - --json <"$dir/list" | untitled >"$dir/got"
grep -q '"id":"N1014"' "$dir/got" || fail "candidates from stdin"
printf 'N1014\na b\n' >"$dir/list"
check "a bad line" 1 "list:2: an id" rank --user U35 --candidates-file "$dir/list"

# What is damaged: a content, and a user whom the default stands in for.
generation=$(cli get '{embsum}:live')
store=$url
cli setrange "embsum:$generation:c:N1001" 80 XXXX >/dev/null
cli setrange "embsum:$generation:u:U12" 80 XXXX >/dev/null
start_daemon "$url" damaged
same "damaged" "{\"user\":\"U12\",\"candidates\":[\"N1001\",\"N1014\"],\"top_k\":10}" --user U12 --candidates N1001,N1014
grep -q '"degraded":\["user_corrupt"\].*"id":"N1001","reason":"corrupt"' "$dir/got" || fail "what is damaged is not told"
check "shown" 0 "missing: N1001, the stored matrix is damaged" rank --user U12 --candidates N1001,N1014

# ---- another generation ----
$refresh --store "$url" --full --no-promote >"$dir/refresh.out"
other=$(sed -n 's/.*"generation":"\([^"]*\)".*/\1/p' "$dir/refresh.out")
check "a generation by name" 0 "generation  $other" rank --user U35 --candidates N1001 --generation "$other"
check "no such generation" 1 "it has no manifest" rank --user U35 --generation 20200101T000000Z-00000000

# ---- for people ----
summary=$(cli --raw get "embsum:$generation:s:U35" | cut -c1-20)
check "the summary" 0 "interests   $summary" rank --user U35
check "unknown" 0 "ranked as the default user" rank --user nobody
check "explained" 0 "user code [0-9]* x content code [0-9]*: weight 0\.[0-9]*, similarity" rank --user U35 --explain --top-k 2
[ "$(grep -c 'user code' "$dir/out")" = 10 ] || fail "five pairs an item"

# A title that would colour, clear and ring, one of wide characters, one that is no UTF-8, one that turns the line round.
title() { # ID PRINTF-FORMAT...
    id=$1
    shift
    # shellcheck disable=SC2059 # it is one
    printf "$@" | cli -x set "embsum:$generation:t:$id" >/dev/null
}
title N1014 'Bell\007 red\033[31m clear\033[2J\tC1 \302\233 end\n'
title N1002 '\344\270\255\346\226\207\346\226\260\351\227\273 %s' "$(printf 'and a long title %.0s' 1 2 3 4 5 6 7 8)"
title N1003 'half \344\270'
title N1004 'turned \342\200\256round'
candidates=N1014,N1002,N1003,N1004
rank --user U35 --candidates $candidates >"$dir/out"
LC_ALL=C grep -q '[[:cntrl:]]' "$dir/out" && fail "a control byte in the table"
for text in 'Bell\\x07 red\\x1b\[31m' 'C1 \\u009b end\\x0a' 'half \\xe4\\xb8' 'turned \\u202eround'; do
    grep -q "$text" "$dir/out" || { fail "not shown: $text"; cat "$dir/out"; }
done
rank --user U35 --candidates $candidates --json >"$dir/out"
python3 - "$dir/out" <<'EOF' || fail "titles in JSON"
import json, sys
raw = open(sys.argv[1], "rb").read()
answer = json.loads(raw.decode("utf-8"))
titles = {item["id"]: item["title"] for item in answer["ranking"]}
assert titles["N1014"] == "Bell\a red\x1b[31m clear\x1b[2J\tC1 \x9b end\n", titles
assert titles["N1003"] == "half \ufffd\ufffd", titles
assert not any(byte < 32 for byte in raw.rstrip(b"\n")), raw
EOF

# On a terminal of a width: lines fit, characters are whole, nothing acts; colours only where they are wanted.
cat >"$dir/terminal.py" <<'EOF'
import fcntl, os, pty, struct, sys, termios
columns, command = int(sys.argv[1]), sys.argv[2:]
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    os.execv(command[0], command)
data = b""
while True:
    try:
        part = os.read(fd, 65536)
    except OSError:
        break
    if not part:
        break
    data += part
sys.stdout.buffer.write(data.replace(b"\r\n", b"\n"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
EOF
cat >"$dir/widths.py" <<'EOF'
import sys, unicodedata
columns = int(sys.argv[1])
lines = sys.stdin.buffer.read().decode("utf-8").split("\n")
assert len(lines) > 5, lines
for line in lines:
    wide = sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)
    assert wide <= columns, (wide, line)
    assert all(unicodedata.category(c) not in ("Cc", "Cf") for c in line), line
assert any("..." in line for line in lines) or columns > 200, lines
EOF
on_terminals() {
    for columns in 40 64 80; do
        TERM=xterm NO_COLOR=1 python3 "$dir/terminal.py" $columns "$embsum" rank --store "$url" --user U35 --candidates $candidates >"$dir/out" ||
            fail "on a terminal"
        python3 "$dir/widths.py" $columns <"$dir/out" || fail "$columns columns"
    done
    coloured() { LC_ALL=C grep -q "$(printf '\033')" "$dir/out"; }
    TERM=xterm python3 "$dir/terminal.py" 80 "$embsum" rank --store "$url" --user U35 --candidates N1001 >"$dir/out"
    coloured || fail "no colour on a terminal"
    TERM=dumb python3 "$dir/terminal.py" 80 "$embsum" rank --store "$url" --user U35 --candidates N1001 >"$dir/out"
    coloured && fail "colours on a dumb terminal"
    TERM=xterm python3 "$dir/terminal.py" 80 "$embsum" rank --store "$url" --user U35 --candidates $candidates --json >"$dir/out"
    LC_ALL=C grep -q '[^ -~]' "$dir/out" && fail "JSON on a terminal is not all ASCII"
}
if python3 -c 'import os; os.openpty()' 2>/dev/null; then
    on_terminals
else
    echo "skipped: no pseudo-terminals here (/dev/pts), so that nothing was tried on one"
fi

check "a full disk" 1 "write to stdout" sh -c "$embsum rank --store $url --user U35 >/dev/full"
exit $failed
