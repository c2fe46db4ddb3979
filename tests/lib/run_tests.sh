#!/bin/sh
# Run the given tests (cmocka programs and .sh scripts) and sum up. A test passes with 0, is skipped with 77,
# fails with anything else, and with 124 when it is not done within LIMIT seconds. Each test's output goes to
# $BUILD/log/NAME.log and is shown when it fails; a skipped one shows its last lines, which say why.
set -u
: "${BUILD:=build}" "${LIMIT:=600}"
log=$BUILD/log
mkdir -p "$log"
passed=0 failed=0 skipped=0
for test in "$@"; do
    name=$(printf %s "${test#"$BUILD"/}" | sed 's,^.*tests/,,; s,/,.,g')
    start=$(date +%s%N)
    case $test in
    *.sh) timeout -k 10 "$LIMIT" sh "$test" >"$log/$name.log" 2>&1 ;;
    *) timeout -k 10 "$LIMIT" "$test" >"$log/$name.log" 2>&1 ;;
    esac
    code=$?
    ms=$((($(date +%s%N) - start) / 1000000))
    case $code in
    0) passed=$((passed + 1)) word=pass ;;
    77) skipped=$((skipped + 1)) word=SKIP ;;
    *) failed=$((failed + 1)) word=FAIL ;;
    esac
    printf '%s  %-40s %6d ms\n' "$word" "$name" "$ms"
    if [ "$word" = SKIP ]; then
        tail -n 3 "$log/$name.log" | sed 's/^/      /'
    elif [ "$word" = FAIL ]; then
        echo "---- exit $code, $log/$name.log:"
        grep -nE 'ERROR|FAILED|Failure|runtime error|Sanitizer' "$log/$name.log" | head -n 20
        echo "..."
        tail -n 60 "$log/$name.log"
        echo "----"
    fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
