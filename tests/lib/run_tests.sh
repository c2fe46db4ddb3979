#!/bin/sh
# Run the given tests (cmocka programs and .sh scripts) and sum up. A test passes with 0, is skipped with 77,
# fails with anything else, and with 124 when it is not done within LIMIT seconds. Each test's output goes to
# $BUILD/log/NAME.log and is shown when it fails; a skipped one shows its last lines, which say why.
#
# A sanitizer, or memcheck, writes what it finds to $BUILD/log/NAME.report.PID, and one such file fails the test: a daemon
# whose exit code nobody looks at is judged, too. EMBSUM_SLOW is how many times as long anything may take under it.
set -u
: "${BUILD:=build}" "${MODE:=release}"
case $MODE in asan | tsan) : "${EMBSUM_SLOW:=4}" ;; valgrind) : "${EMBSUM_SLOW:=20}" ;; *) : "${EMBSUM_SLOW:=1}" ;; esac
export EMBSUM_SLOW
: "${LIMIT:=$((600 * EMBSUM_SLOW))}"
asan=${ASAN_OPTIONS:-} ubsan=${UBSAN_OPTIONS:-} tsan=${TSAN_OPTIONS:-}
export LSAN_OPTIONS="${LSAN_OPTIONS:-}:print_suppressions=0" # which ones were used is no finding
log=$BUILD/log
mkdir -p "$log"
passed=0 failed=0 skipped=0
for test in "$@"; do
    name=$(printf %s "${test#"$BUILD"/}" | sed 's,^.*tests/,,; s,/,.,g')
    report=$log/$name.report
    rm -f "$report".*
    # UBSan's own message goes to stderr all the same, so it aborts, and ASan writes the stack to the file.
    export ASAN_OPTIONS="$asan:log_path=$report:handle_abort=1" MEMCHECK_REPORT="$report" \
        UBSAN_OPTIONS="$ubsan:log_path=$report:print_stacktrace=1:abort_on_error=1" TSAN_OPTIONS="$tsan:log_path=$report"
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
    0) passed=$((passed + 1)) word=pass ;;
    77) skipped=$((skipped + 1)) word=SKIP ;;
    *) failed=$((failed + 1)) word=FAIL ;;
    esac
    printf '%s  %-40s %6d ms\n' "$word" "$name" "$ms"
    if [ "$word" = pass ]; then # all but what its parts say
        grep -hoiE "^skipped: .*|[^ ]+ \([^ ]+\) .* skipped '.*" "$log/$name.log" | sed 's/^/      /'
    elif [ "$word" = SKIP ]; then
        tail -n 3 "$log/$name.log" | sed 's/^/      /'
    elif [ "$word" = FAIL ]; then
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
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
