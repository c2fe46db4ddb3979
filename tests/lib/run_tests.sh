#!/bin/sh
# Run the given tests (cmocka programs and .sh scripts) and sum up. A test passes with 0, is skipped with 77, fails with
# anything else, and with 124 when it is not done within LIMIT seconds.
#
# JOBS of them run side by side (one more than there are processors, since much of a test is waiting; 5 at most, unless given).
# Those that measure time or load, or give a store or a daemon little of it, run alone, after the others.
#
# A sanitizer, or memcheck, writes what it finds to $BUILD/log/NAME.report.PID, and one such file fails the test: a daemon
# whose exit code nobody looks at is judged, too. EMBSUM_SLOW is how many times as long anything may take under it.
set -u
: "${BUILD:=build}" "${MODE:=release}"
case $MODE in asan | tsan) : "${EMBSUM_SLOW:=4}" ;; valgrind) : "${EMBSUM_SLOW:=20}" ;; *) : "${EMBSUM_SLOW:=1}" ;; esac
: "${LIMIT:=$((600 * EMBSUM_SLOW))}"
processors=$(nproc)
: "${JOBS:=$((processors < 4 ? processors + 1 : 5))}"
export BUILD MODE EMBSUM_SLOW LIMIT
log=$BUILD/log
mkdir -p "$log"
rm -f "$log"/*.result

# alone TEST: does it need the machine?
alone() {
    case $1 in
    */trust/* | */load/* | */bench/* | */server/test_api | */server/test_hot* | */server/test_shadow*) return 0 ;;
    */test_store_redis_* | */test_store_work | */test_clicks.sh) return 0 ;;
    esac
    return 1
}

for scripts in yes no; do # which take longest
    for test in "$@"; do
        case $test in *.sh) is=yes ;; *) is=no ;; esac
        [ $is = $scripts ] && ! alone "$test" && printf '%s\n' "$test"
    done
done | xargs -r -n 1 -P "$JOBS" sh tests/lib/run_test.sh
for test in "$@"; do
    ! alone "$test" || sh tests/lib/run_test.sh "$test"
done
count() {
    find "$log" -name '*.result' -exec head -q -n 1 {} + | grep -c "^$1 "
}
failed=$(count FAIL) missing=$(($# - $(find "$log" -name '*.result' | wc -l)))
echo "$(count pass) passed, $((failed + missing)) failed, $(count SKIP) skipped"
[ $((failed + missing)) = 0 ]
