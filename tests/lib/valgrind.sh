#!/bin/sh
# The given tests under valgrind's memcheck: run_tests.sh on BUILD/valgrind, a folder of the build's shape in which a script in
# each program's place runs it under memcheck. The daemons and programs that tests start come from there, too. Uninitialised
# values that matter, bytes outside of memory, what is definitely lost: each fails its test. A test that cannot be run like
# this is a script there as well, which says why.
set -eu
: "${BUILD:=build}"
command -v valgrind >/dev/null || { echo "valgrind is not installed"; exit 1; }
there=$BUILD/valgrind
rm -rf "$there"

# why TEST: why it is left out
why() {
    case ${1##*/} in
    test_sandbox) echo "the sandbox refuses what valgrind itself needs (the daemon runs without: server.sandbox=false)" ;;
    test_nomem_* | test_warm) echo "memcheck has a malloc of its own, in place of the one that fails or counts" ;;
    test_redis.sh | test_scenario.sh) echo "refreshes of the whole demo, one after the other; test_refresh.sh and test_workers.sh run the same code" ;;
    test_install.sh) echo "it builds the programs itself" ;;
    test_man.sh | test_yaml.sh | test_refresh_loop.sh) echo "it runs none of the programs" ;;
    test_mpi.sh) echo "Open MPI loses memory of its own; make asan runs it" ;;
    test_encode_reference.sh) echo "a T5-small is too slow; test_encode_golden runs the same code on the tiny model" ;;
    test_train.sh | test_train_faults.sh | test_validation.sh | test_study.sh | test_overfit.sh)
        echo "too many steps; test_train, test_train_job and test_gradients run the same code"
        ;;
    test_eval.sh) echo "too many users; test_demo_model.sh evaluates" ;;
    test_gradients_t5) echo "too many passes, for differences; test_train runs the same ones" ;;
    test_load.sh) echo "the load generator measures time" ;;
    test_curl.sh) echo "its page gives curl a second; test_replay.sh sends the same requests" ;;
    test_serve.sh) echo "a benchmark under valgrind says nothing" ;;
    test_console.sh) echo "the browser waits for nobody; test_console runs the daemon's part" ;;
    test_commands.sh | test_pytorch.sh) echo "a page's commands have seconds, not minutes; others run the same ones" ;;
    test_sizing.sh) echo "it measures memory" ;;
    test_quickstart.sh) echo "it builds the programs itself; others run all of them" ;;
    test_hardening.sh | test_layers.sh | test_links.sh | test_shell.sh | test_source.sh | test_systemd.sh | test_demo.sh | test_reference.sh | test_openapi.sh)
        echo "it runs none of the programs"
        ;;
    esac
}
# script FILE LINE: a shell script of one line
script() {
    mkdir -p "$(dirname "$1")"
    printf '#!/bin/sh\n%s\n' "$2" >"$1"
    chmod +x "$1"
}
options="--quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite"
options="$options --num-callers=30 --suppressions=$PWD/tests/lib/memcheck.supp"
# memcheck PROGRAM: in its place; reports go to a file where the test has one
memcheck() {
    script "$there/$1" "exec valgrind $options \${MEMCHECK_REPORT:+--log-file=\"\$MEMCHECK_REPORT.%p\"} \"$BUILD/$1\" \"\$@\""
}

memcheck embsum
memcheck embsumd
n=$#
while [ "$n" -gt 0 ]; do
    test=${1#"$BUILD"/}
    reason=$(why "$test")
    if [ "$reason" ]; then
        script "$there/$test" "echo 'left out under valgrind: $reason' && exit 77"
    elif [ -x "$BUILD/$test" ]; then
        memcheck "$test"
    fi
    [ ! -e "$there/$test" ] || test=$there/$test
    set -- "$@" "$test"
    shift
    n=$((n - 1))
done
# oneDNN's products are code made at run time that reads 32 bytes behind blocks of its own: without a name or a place there is
# nothing to suppress, and OpenBLAS multiplies. Of its kernels one without FMA, which memcheck computes in software: a
# training step takes a tenth of the time.
export EMBSUM_ONEDNN=0 OPENBLAS_CORETYPE=Nehalem
export EMBSUMD="$there/embsumd" TEST_API="$there/tests/server/test_api" EMBSUM_SERVER_SANDBOX=false EMBSUM_SHORT=20
BUILD=$there MODE=valgrind LIMIT=${LIMIT:-1800} exec sh tests/lib/run_tests.sh "$@"
