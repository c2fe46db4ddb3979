#!/bin/sh
# Run one test (a cmocka program or a .sh script) for run_tests.sh: its output goes to $BUILD/log/NAME.log and is shown when it
# fails, a skipped one shows its last lines, which say why. The first word of $BUILD/log/NAME.result is pass, SKIP or FAIL.
set -u
test=$1 log=$BUILD/log
name=$(printf %s "${test#"$BUILD"/}" | sed 's,^.*tests/,,; s,/,.,g')
report=$log/$name.report
rm -f "$report".*
# UBSan's own message goes to stderr all the same, so it aborts, and ASan writes the stack to the file.
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:log_path=$report:handle_abort=1" MEMCHECK_REPORT="$report" \
    UBSAN_OPTIONS="${UBSAN_OPTIONS:-}:log_path=$report:print_stacktrace=1:abort_on_error=1" \
    TSAN_OPTIONS="${TSAN_OPTIONS:-}:log_path=$report" \
    LSAN_OPTIONS="${LSAN_OPTIONS:-}:print_suppressions=0" # which ones were used is no finding
start=$(date +%s%N)
case $test in
*.sh) timeout -k 10 "$LIMIT" sh "$test" >"$log/$name.log" 2>&1 ;;
*) timeout -k 10 "$LIMIT" "$test" >"$log/$name.log" 2>&1 ;;
esac
code=$?
ms=$((($(date +%s%N) - start) / 1000000))
find "$log" -name "$name.report.*" -size 0 -delete # memcheck's files of processes without a finding
reports=$(find "$log" -name "$name.report.*")
[ -z "$reports" ] || code="$code, with reports"
case $code in
0) word=pass ;;
77) word=SKIP ;;
*) word=FAIL ;;
esac
{
    printf '%s  %-40s %6d ms\n' "$word" "$name" "$ms"
    if [ "$word" = pass ]; then # all but what its parts say
        grep -hoiE "^skipped: .*|[^ ]+ \([^ ]+\) .* skipped '.*" "$log/$name.log" | sed 's/^/      /'
    elif [ "$word" = SKIP ]; then
        tail -n 3 "$log/$name.log" | sed 's/^/      /'
    else
        echo "---- exit $code, $log/$name.log:"
        grep -nE 'ERROR|FAILED|Failure|runtime error|Sanitizer' "$log/$name.log" | head -n 20
        echo "..."
        tail -n 60 "$log/$name.log"
        for report in $reports; do
            echo "---- $report:"
            head -n 60 "$report"
        done
        echo "----"
    fi
} >"$log/$name.result"
cat "$log/$name.result"
