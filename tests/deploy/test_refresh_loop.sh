#!/bin/sh
# deploy/compose/refresh-loop, with the words of compose.yaml before the refresh: one at a time, code 3 is no failure, others are told, a signal stops what runs and then the loop.
set -u
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d "${TMPDIR:-/tmp}/embsum-loop.XXXXXX") || exit 1
loop=''
trap '[ -z "$loop" ] || kill -9 "$loop" 2>/dev/null; rm -rf "$work"' EXIT
failed=0
fail() {
    echo "FAILED: $1"
    sed 's/^/    /' "$work/err"
    failed=1
}
# Counts its runs, says so when it is asked to stop, and ends with the next code of the file.
cat >"$work/refresh" <<'JOB'
#!/bin/sh
cd "$1" || exit 9
[ ! -e running ] || echo overlap >>runs
: >running
trap 'echo stopped >>runs; rm running; exit 0' TERM
code=$(head -n 1 codes)
sed -i 1d codes
[ "$code" != wait ] || { echo waits >>runs && while :; do sleep 0.1; done; }
echo "${code:-0}" >>runs
rm running
exit "${code:-0}"
JOB
chmod +x "$work/refresh"
until_runs() { # N
    tries=$((200 * ${EMBSUM_SLOW:-1}))
    until [ "$(wc -l <"$work/runs")" -ge "$1" ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { fail "no $1 runs"; return; }
        sleep 0.05
    done
}
start() { # SECONDS
    : >"$work/runs"
    sh deploy/compose/refresh-loop "$1" timeout -k 5 60 flock -n -E 3 -F "$work/lock" "$work/refresh" "$work" 2>"$work/err" &
    loop=$!
}
stopped() { # WHAT
    kill "$loop"
    wait "$loop"
    code=$?
    loop=''
    [ "$code" = 0 ] || fail "$1: the loop ends with $code"
}

printf '%s\n' 0 3 1 wait >"$work/codes"
start 0
until_runs 4
stopped "a run"
[ "$(paste -sd ' ' "$work/runs")" = "0 3 1 waits stopped" ] || fail "runs: $(paste -sd ' ' "$work/runs")"
printf '%s\n' "refresh-loop: another writer is at work" "refresh-loop: the refresh failed with 1" >"$work/wanted"
grep '^refresh-loop' "$work/err" | cmp -s - "$work/wanted" || fail "what it says"

# Between two runs it waits, and can be stopped.
start 3600
until_runs 1
sleep 0.3
stopped "a pause"
[ "$(wc -l <"$work/runs")" = 1 ] || fail "it does not wait"

sh deploy/compose/refresh-loop 2>/dev/null
[ $? = 2 ] || fail "no command"
[ "$failed" = 0 ] && echo "the loop works"
exit "$failed"
