#!/bin/sh
# embsum summarize against an endpoint that misbehaves (llm_stub.py): no user is lost and none asked twice after a resume,
# whenever the program dies; pauses are kept; the key arrives and appears nowhere; a prompt is what the template says.
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:=build}"
embsum=$BUILD/embsum python=/usr/bin/python3 demo=deploy/demo tiny=tests/golden/tiny
dir=$(mktemp -d)
stub='' run=''
trap '[ -z "$run" ] || kill -9 "$run" 2>/dev/null; rm -f "$dir"/*/port; [ -z "$stub" ] || wait $stub; rm -rf "$dir"' EXIT
unset EMBSUM_API_KEY OPENAI_API_KEY http_proxy HTTP_PROXY all_proxy ALL_PROXY
failed=0
fail() {
    echo "FAILED: $*"
    failed=1
}

# start_stub NAME: an endpoint of its own in $dir/NAME; its port in $port
start_stub() {
    mkdir -p "$dir/$1" && : >"$dir/$1/log"
    $python tests/batch/llm_stub.py "$dir/$1" &
    stub="$stub $!"
    for _ in $(seq 1 200); do [ -s "$dir/$1/port" ] && break; sleep 0.05; done
    port=$(cat "$dir/$1/port") || exit 1
    : >"$dir/$1/plan"
}
# world USERS: news and behaviors of so many users U1, U2, ..., each with an item that names it
world() {
    awk -v n="$1" 'BEGIN { OFS = "\t"; for (i = 1; i <= n; i++) print "N" i, "c", "s", "marker-U" i, "About " i, "u", "[]", "[]" }' \
        >"$dir/news.tsv"
    awk -v n="$1" 'BEGIN { OFS = "\t"; for (i = 1; i <= n; i++) print i, "U" i, "t", "N" i, "N1-0" }' >"$dir/behaviors.tsv"
}
# become OPTION...: on the world and the stub `llm`, in place of this shell, so that a signal reaches the program itself
become() {
    exec "$embsum" summarize --news "$dir/news.tsv" --behaviors "$dir/behaviors.tsv" --endpoint "http://127.0.0.1:$llm/v1" \
        --llm stub/model --out "$dir/out.jsonl" "$@"
}
# check NAME EXPECTED-CODE PATTERN OPTION...: run it, compare the exit code, look for the pattern in what it printed
check() {
    name=$1 want=$2 pattern=$3
    shift 3
    (become "$@") >"$dir/out" 2>"$dir/err"
    got=$?
    cat "$dir/out" "$dir/err" >>"$dir/all"
    if [ "$got" != "$want" ] || { [ -n "$pattern" ] && ! cat "$dir/out" "$dir/err" | grep -q -- "$pattern"; }; then
        fail "$name: exit $got (wanted $want), pattern '$pattern', output:"
        sed 's/^/    /' "$dir/out" "$dir/err"
    fi
}
# fresh USERS PLAN-LINE...: a new world, no output, an endpoint that has seen nobody
fresh() {
    world "$1"
    shift
    rm -f "$dir/out.jsonl" "$dir"/llm/body.*
    : >"$dir/llm/log"
    printf '%s\n' "$@" >"$dir/llm/plan.new" && mv "$dir/llm/plan.new" "$dir/llm/plan"
}
requests() { awk -F '\t' -v u="$1" '$2 == u' "$dir/llm/log" | wc -l; }
# everybody USERS: each of them has exactly one summary, and it is the right one
everybody() {
    for i in $(seq 1 "$1"); do echo "{\"user\": \"U$i\", \"summary\": \"Summary of U$i.\"}"; done | sort >"$dir/expected"
    sort "$dir/out.jsonl" | cmp - "$dir/expected" || fail "$2: not everybody has a summary once"
}

# ---- usage ----
printf 'sk-test-0123456789abcdef\n' >"$dir/key" && key=$(cat "$dir/key")
start_stub llm
llm=$port
world 1
check "help" 0 "usage: embsum summarize" --help
check "a number" 2 "between 0 and 2" --temperature 3
"$embsum" summarize --news a --behaviors b --llm c --out d 2>"$dir/err"
[ $? = 2 ] && grep -q -- "missing: --endpoint" "$dir/err" || fail "without an endpoint: $(cat "$dir/err")"

"$embsum" summarize --news a --behaviors b --endpoint http://h --llm "$(printf 'm\377')" --out d 2>"$dir/err"
[ $? = 2 ] && grep -q -- "--llm must be a name" "$dir/err" || fail "a name that is no text: $(cat "$dir/err")"

# ---- one answer of every kind, and the request itself ----
fresh 40 'U1 429' 'U2 status:500 status:502' 'U3 drop' 'U4 half' 'U5 torn' 'U6 no_choices' 'U7 html' 'U8 null' 'U9 blank' \
    'U10 number' 'U11 nul' 'U12 surrogate' 'U13 latin1' 'U14 error' 'U15 huge' 'U16 endless' 'U17 garbage' 'U18 slow' \
    'U19 no_object' 'U20 status:408' 'U21 later:0.3' 'U22 drop half' 'U23 status:503'
check "every misbehaviour" 0 '^{"asked":40,"written":40,"failed":0,"skipped":0,"known":0,"requests":[0-9]*,"cut":0,"prompt_tokens":4' \
    --api-key-file "$dir/key" --in-flight 40 --timeout "${EMBSUM_SLOW:-1}"
everybody 40 "every misbehaviour"
[ -n "$(tail -c 1 "$dir/out.jsonl")" ] && fail "the last line has no end"
for u in U24 U40; do [ "$(requests $u)" = 1 ] || fail "$u was asked $(requests $u) times"; done
[ "$(requests U2)" = 3 ] || fail "U2 was asked $(requests U2) times"
awk -F '\t' -v key="Bearer $key" '$4 != "/v1/chat/completions" || $5 != key' "$dir/llm/log" >"$dir/strays"
[ -s "$dir/strays" ] && fail "other requests: $(head -n 3 "$dir/strays")"
$python - "$dir/llm/body.U1" <<'END' || fail "the body of a request"
import json, sys
body = json.load(open(sys.argv[1]))
text = body.pop("messages")
assert body == {"model": "stub/model", "temperature": 0, "max_tokens": 256, "stream": False}, body
assert len(text) == 1 and text[0]["role"] == "user" and text[0]["content"].endswith("\n1. marker-U1; About 1"), text
END
check "nothing left to ask" 0 '"asked":0,"written":0,"failed":0,"skipped":0,"known":40' --quiet
[ -s "$dir/err" ] && fail "--quiet told something: $(cat "$dir/err")"

# ---- the text that is kept ----
fresh 3 'U1 lines' 'U2 length' 'U3 filter'
check "texts" 1 '"written":2,"failed":1,.*"cut":1' --max-tokens 0 --temperature default
grep -q '^U3: no summary after 1 request: the endpoint.s content filter' "$dir/err" || fail "the filter: $(cat "$dir/err")"
grep -qx '{"user": "U1", "summary": "First \\"line\\" of U1. Second'"$(printf '\302\240')"'é \\\\ line."}' "$dir/out.jsonl" || fail "$(cat "$dir/out.jsonl")"
$python -c 'import json, sys; body = json.load(open(sys.argv[1])); sys.exit("max_tokens" in body or "temperature" in body)' \
    "$dir/llm/body.U1" || fail "the endpoint's own limits"

# ---- pauses: nobody asks while one lasts; those who were to be asked are, behind it ----
pause() { # NAME PLAN-WORD SECONDS SLOTS USERS: U5 gets it; when several ask, some may have done so before they learn of it
    fresh "$5" "U5 $2" '* later:0.05...'
    check "$1" 0 "\"written\":$5" --in-flight "$4"
    everybody "$5" "$1"
    awk -F '\t' -v least="$3" -v late="$(($4 > 1))" '$3 ~ /^(429|503)/ { at = $1; next }
        at && $1 > at + late / 2 && $1 < at + least { early++; print "early:", $0 }
        at && $1 >= at + least { after++ } END { exit !(at && after >= 4 && !early) }' "$dir/llm/log" || fail "$1: $(cat "$dir/llm/log")"
}
pause "429 with seconds" 429:2 2 1 9
grep -q "^waiting for 2 s: HTTP 429: slow down" "$dir/err" || fail "the pause is not told: $(cat "$dir/err")"
pause "429 with a date" 429:date 1.9 4 60
pause "503 with seconds" 503:1 1 4 60
pause "429 without" 429 0.5 1 9
# An endpoint that takes far fewer at a time than are asked slows the run down; it costs nobody a summary.
fresh 60 '* crowd:8...'
check "a crowd" 0 '"written":60,"failed":0' --in-flight 32 --retries 3
everybody 60 "a crowd"
fresh 3 'U1 429:7200'
check "a pause of hours" 1 "wants a pause of 7200 s" --in-flight 1

# ---- given up: named, counted, and asked again by the next run ----
fresh 6 'U2 status:500 status:500 ok' 'U4 status:400'
check "given up" 1 '^embsum summarize: 2 of 6 users have no summary; the same command asks about them again' --retries 1
grep -q '"asked":6,"written":4,"failed":2,' "$dir/out" || fail "given up: $(cat "$dir/out")"
grep -q '^U2: no summary after 2 requests: HTTP 500: it is a 500' "$dir/err" || fail "U2 is not named: $(cat "$dir/err")"
grep -q '^U4: no summary after 1 request: HTTP 400: it is a 400' "$dir/err" || fail "U4 is not named: $(cat "$dir/err")"
check "the next run" 0 '"asked":2,"written":2,"failed":0,"skipped":0,"known":4,"requests":2,' --retries 1
everybody 6 "the next run"
[ "$(wc -l <"$dir/llm/log")" = 9 ] || fail "$(wc -l <"$dir/llm/log") requests instead of 9"

# ---- it will not get better: stop at once ----
for status in 401 403 404; do
    fresh 30 "* status:$status"
    check "HTTP $status" 1 "^embsum summarize: stopped.*HTTP $status: it is a $status" --in-flight 2 --api-key-file "$dir/key"
    [ "$(wc -l <"$dir/llm/log")" -le 3 ] || fail "HTTP $status: asked on"
done
fresh 9 '* quota'
check "no money" 1 "^embsum summarize: stopped.*no money left" --in-flight 1
fresh 120 '* status:422'
check "nobody gets one" 1 "stopped after 50 users in a row without a summary; the last reason: HTTP 422" --quiet
[ "$(wc -l <"$dir/llm/log")" -le 60 ] || fail "422: asked on"
start_stub elsewhere
elsewhere=$port
fresh 1 "U1 redirect:$elsewhere"
check "a redirect" 1 "a redirect, which is not followed, to http://127.0.0.1:$elsewhere/" --api-key-file "$dir/key"
[ -s "$dir/elsewhere/log" ] && fail "the redirect was followed"
there=$llm llm=9
check "nobody listens" 1 "U1: no summary after 2 requests: .*onnect" --retries 1
grep -q "^the first request failed, and is repeated: .*onnect" "$dir/err" || fail "a first failure is not told: $(cat "$dir/err")"
llm=$there

# Whom nobody vouches for does not learn the key.
if openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -days 1 \
    -keyout "$dir/private.pem" -out "$dir/certificate.pem" 2>"$dir/err"; then
    mkdir "$dir/tls" && cat "$dir/private.pem" "$dir/certificate.pem" >"$dir/tls/tls.pem"
    start_stub tls
    "$embsum" summarize --news "$dir/news.tsv" --behaviors "$dir/behaviors.tsv" --endpoint "https://127.0.0.1:$port" --llm m \
        --out "$dir/out.jsonl" --api-key-file "$dir/key" --quiet >"$dir/out" 2>"$dir/err" && fail "a certificate of nobody's"
    grep -q "stopped, for it would be the same with every user: .*certificate" "$dir/err" || fail "TLS: $(cat "$dir/err")"
    [ -s "$dir/tls/log" ] && fail "a request went to whom nobody vouches for"
fi

# ---- the key ----
fresh 2 '* echo:500' 'U2 echo:401'
check "the key said back" 1 "HTTP 500: \[31mwrong key: Bearer \*\*\*\*" --retries 0 --api-key-file "$dir/key" --limit 1
grep -q "$(printf '\033')" "$dir/err" && fail "control characters of the endpoint reach the terminal"
check "a wrong key" 1 "HTTP 401" --api-key-file "$dir/key"
fresh 1
printf 'sk-with\nnewline\n' >"$dir/bad"
check "a key of two lines" 1 "bad holds a space, a control character" --api-key-file "$dir/bad"
: >"$dir/bad"
check "an empty key" 1 "bad is empty" --api-key-file "$dir/bad"
EMBSUM_API_KEY=$key OPENAI_API_KEY=sk-other-key-0123456 check "the key of the environment" 0 '"written":1' --quiet
grep -q "Bearer $key" "$dir/llm/log" || fail "EMBSUM_API_KEY was not sent"
fresh 1
OPENAI_API_KEY=$key check "OpenAI's key is for OpenAI" 0 '"written":1' --quiet
grep -q "$key" "$dir/llm/log" && fail "OPENAI_API_KEY went to another endpoint"
(become --endpoint "http://me:secret@127.0.0.1:$llm/") >"$dir/out" 2>"$dir/err"
[ $? != 0 ] || fail "a password in the URL"

# ---- addresses ----
fresh 4
n=0
for end in '' / /v1/ '/v1/chat/completions'; do
    n=$((n + 1))
    "$embsum" summarize --news "$dir/news.tsv" --behaviors "$dir/behaviors.tsv" --endpoint "http://127.0.0.1:$llm$end" --llm m \
        --out "$dir/out.jsonl" --limit 1 --quiet >/dev/null || fail "the address ...$end"
    [ "$(tail -n 1 "$dir/llm/log" | cut -f 4)" = /v1/chat/completions ] || fail "the address ...$end: $(tail -n 1 "$dir/llm/log")"
done
for address in ftp://127.0.0.1/ 127.0.0.1 "" http://; do
    "$embsum" summarize --news a --behaviors b --endpoint "$address" --llm m --out "$dir/x" 2>"$dir/err" && fail "address '$address'"
    grep -q "must be a URL" "$dir/err" || fail "address '$address': $(cat "$dir/err")"
done

# ---- killed in the middle, and a torn line: the others' summaries stay, and nobody is asked twice ----
late=$(awk -v slow="${EMBSUM_SLOW:-1}" 'BEGIN { print 0.1 * slow }') # time for another run to be started meanwhile
fresh 60 "* later:$late"
become --in-flight 4 --api-key-file "$dir/key" --quiet >"$dir/out" 2>"$dir/err" &
run=$!
for _ in $(seq 1 $((400 * ${EMBSUM_SLOW:-1}))); do [ -s "$dir/out.jsonl" ] && [ "$(wc -l <"$dir/out.jsonl")" -ge 12 ] && break; sleep 0.02; done
tr '\0' ' ' <"/proc/$run/cmdline" >"$dir/cmdline"
ps -ef >>"$dir/cmdline" 2>/dev/null
grep -q "embsum summarize" "$dir/cmdline" || fail "the program is not in the list of processes"
grep -q "$key" "$dir/cmdline" && fail "the key is in the list of processes"
check "two runs at once" 3 "out.jsonl: another run is writing it" --quiet
kill -9 $run
wait $run 2>/dev/null
run=''
sed 's/.*"user": "\([^"]*\)".*/\1/' "$dir/out.jsonl" | sort >"$dir/kept"
[ "$(wc -l <"$dir/kept")" -lt 60 ] || fail "it was done before it was killed: the test shows nothing"
printf '{"user": "U60", "summ' >>"$dir/out.jsonl"
sleep "$late" && sleep 0.2 # what was under way has been logged
before=$(wc -l <"$dir/llm/log")
check "a dry run beside it" 0 "^==== U60 ====" --dry-run
tail -c 5 "$dir/out.jsonl" | grep -q summ || fail "the dry run changed the output"
check "after kill -9" 0 '"failed":0' --in-flight 4 --api-key-file "$dir/key"
everybody 60 "after kill -9"
tail -n +$((before + 1)) "$dir/llm/log" | cut -f 2 | sort >"$dir/asked"
[ -z "$(uniq -d "$dir/asked")" ] || fail "asked twice: $(uniq -d "$dir/asked")"
[ -z "$(comm -12 "$dir/asked" "$dir/kept")" ] || fail "asked though known: $(comm -12 "$dir/asked" "$dir/kept")"

# ---- asked to stop ----
fresh 60 "* later:$late"
become --in-flight 4 >"$dir/out" 2>"$dir/err" &
run=$!
for _ in $(seq 1 $((400 * ${EMBSUM_SLOW:-1}))); do [ -s "$dir/out.jsonl" ] && break; sleep 0.02; done
kill -TERM $run
wait $run
code=$?
run=''
[ "$code" = 1 ] && grep -q "stopped by a signal; the same command goes on" "$dir/err" || fail "SIGTERM: exit $code: $(cat "$dir/err")"
grep -q "\"written\":$(wc -l <"$dir/out.jsonl")," "$dir/out" || fail "SIGTERM: $(cat "$dir/out") and $(wc -l <"$dir/out.jsonl") lines"

# ---- the output ----
fresh 2
printf '{"user": "U1", "summary": "Summary of U1."}' >"$dir/out.jsonl" # whole but for its newline
check "a last line without its end" 0 '"known":1' --quiet
everybody 2 "a last line without its end"
cp "$dir/news.tsv" "$dir/precious" && printf 'the end' >>"$dir/precious" && cp "$dir/precious" "$dir/copy"
"$embsum" summarize --news "$dir/news.tsv" --behaviors "$dir/behaviors.tsv" --endpoint "http://127.0.0.1:$llm" --llm m \
    --out "$dir/precious" 2>"$dir/err" && fail "an output that holds something else"
grep -q "precious: the last line is no summary" "$dir/err" || fail "another's file: $(cat "$dir/err")"
cmp "$dir/precious" "$dir/copy" || fail "a file that is not ours was changed"
"$embsum" summarize --news "$dir/news.tsv" --behaviors "$dir/behaviors.tsv" --endpoint "http://127.0.0.1:$llm" --llm m \
    --out /dev/null 2>"$dir/err" && fail "/dev/null as output"
grep -q "/dev/null: no regular file" "$dir/err" || fail "/dev/null: $(cat "$dir/err")"
fresh 40 # of which eleven fit into a file of 512 bytes, and a part of the next
(ulimit -f 1 && trap '' XFSZ && become --quiet) 2>&1 | cat >"$dir/err"
grep -q "^embsum summarize: write .*out.jsonl: No space left" "$dir/err" || fail "a full disk: $(cat "$dir/err")"
grep -q "\"written\":$(wc -l <"$dir/out.jsonl")," "$dir/err" || fail "a full disk: $(cat "$dir/err")"
[ -n "$(tail -c 1 "$dir/out.jsonl")" ] && fail "a full disk left a torn line"
check "room again" 0 '"known":11,'
everybody 40 "room again"

# ---- users with nothing to ask about, and the prompt's words ----
fresh 1
cat >"$dir/template" <<'END'
# a comment
items = 2
abstract_words = 3

[system]
You know {{everything}.

[user]

# Not a comment.
{history}
Who is it?

[item]
{category}/{subcategory}: {title}; {abstract}
END
printf 'N1\tc\ts\tmarker-U1 \t one  two three four\tu\t[]\t[]\nN2\tc\t\tSecond\t\tu\t[]\t[]\nN3\t\t\t \t\tu\t[]\t[]\n' >"$dir/news.tsv"
printf '1\tU1\tt\tN1\tN1-0\n2\tU1\tt\tN2 N2 N9 N1 N3\tN1-0\n3\tU2\tt\t\tN1-0\n4\tU3\tt\tN3 N3 N9\tN1-0\n' >"$dir/behaviors.tsv"
printf '==== U1 ====\n[system]\nYou know {everything}.\n\n[user]\n# Not a comment.\n' >"$dir/expected"
printf '1. c/s: marker-U1; one two three\n2. c/: Second\nWho is it?\n\n' >>"$dir/expected"
check "a template of one's own" 0 "1 prompts; .* (estimated" --template "$dir/template" --dry-run
cmp "$dir/out" "$dir/expected" || fail "the prompt: $(cat "$dir/out")"
check "it is sent" 0 '"asked":1,"written":1,"failed":0,"skipped":2' --template "$dir/template"
$python - "$dir/llm/body.U1" "$dir/expected" <<'END' || fail "what is sent is not what the dry run shows"
import json, sys
system, user = json.load(open(sys.argv[1]))["messages"]
assert (system["role"], user["role"]) == ("system", "user")
assert f"==== U1 ====\n[system]\n{system['content']}\n\n[user]\n{user['content']}\n\n" == open(sys.argv[2]).read()
END
for template in news books; do
    for world in $demo $tiny; do
        "$embsum" summarize --news $world/news.tsv --behaviors $world/behaviors.tsv --template $template --dry-run --quiet >"$dir/out"
        $python tests/batch/prompts.py config/prompts/$template.txt $world/news.tsv $world/behaviors.tsv >"$dir/expected"
        [ -s "$dir/expected" ] && cmp "$dir/out" "$dir/expected" || fail "the prompts of $template on $world"
    done
done
# counted with the vocabulary: as `embsum tokenize` counts a one-line prompt
printf '[user]\nWho reads {history}?\n' >"$dir/short"
world 1
rm "$dir/out.jsonl"
tokens=$(echo 'Who reads 1. marker-U1; About 1?' | "$embsum" tokenize --vocab $demo/model/spiece.model | wc -w)
check "tokens" 0 "^1 prompts; $tokens tokens, $tokens.0 a prompt, at most $tokens (counted" --template "$dir/short" --dry-run \
    --vocab $demo/model/spiece.model

grep -l "$key" "$dir/all" "$dir"/out.jsonl 2>/dev/null && fail "the key was printed"
exit $failed
