#!/bin/sh
# Builds the Dockerfile for real and runs what comes out, with buildah and a base image made here: no registry, no
# container engine. `make image` runs it; it takes minutes. IMAGE_TESTS=no leaves out the tests in the first stage.
# Exits with 77 where buildah or mmdebstrap cannot be had.
set -eu
cd "$(dirname "$0")/../.."

skip() {
    echo "**** SKIP: the image is not tested: $1 ****" >&2
    exit 77
}
[ "$(id -u)" = 0 ] || skip "it needs root"
sh deploy/install-packages image || skip "buildah and mmdebstrap cannot be installed"

work=$(mktemp -d "${TMPDIR:-/tmp}/embsum-image.XXXXXX")
runner=''
cleanup() {
    trap '' INT TERM
    [ -z "$runner" ] || stop_daemon || true
    # buildah knows how to let go of what it mounted.
    b rm --all >/dev/null 2>&1 || true
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() {
    printf '==> %s\n' "$1"
}
fail() {
    echo "FAIL: $1" >&2
    exit 1
}
# same WHAT EXPECTED GOT
same() {
    [ "$2" = "$3" ] || fail "$1 is \"$3\", expected \"$2\""
}
# All of buildah's state is in the temporary folder.
b() {
    command=$1
    shift
    buildah --storage-driver "$driver" --root "$work/storage" --runroot "$work/run" "$command" "$@"
}

# overlay shares the layers, where the kernel has it; vfs copies each, but works everywhere.
driver=overlay
trial=$(b from scratch 2>/dev/null) && b mount "$trial" >/dev/null 2>&1 || driver=vfs
[ -z "$trial" ] || b rm "$trial" >/dev/null 2>&1 || true

say "base image (storage: $driver)"
mmdebstrap --quiet --variant=minbase bookworm "$work/base.tar" || skip "mmdebstrap cannot make a Debian here"
scratch=$(b from scratch) || skip "buildah does not work here"
b add -q "$scratch" "$work/base.tar" / >/dev/null
b commit -q "$scratch" docker.io/library/debian:bookworm-slim >/dev/null
b rm "$scratch" >/dev/null
rm "$work/base.tar"

say "both stages"
build() {
    b bud --quiet --isolation chroot --network host --pull-never --layers --format docker "$@" . >"$work/build.log" 2>&1 || {
        tail -n 40 "$work/build.log" >&2
        fail "the Dockerfile does not build"
    }
}
build --target build -t embsum-build
build -t embsum

if [ "${IMAGE_TESTS-yes}" = yes ]; then
    say "every test in the first stage"
    first=$(b from --pull-never embsum-build)
    b run --isolation chroot --network host "$first" -- sh tests/run || fail "tests fail in the first stage"
    b rm "$first" >/dev/null
fi

say "what the second stage says of itself"
field() {
    b inspect --type image --format "{{$1}}" embsum
}
same "the user" "10001:10001" "$(field .Docker.Config.User)"
same "the port" "map[8080/tcp:{}]" "$(field .Docker.Config.ExposedPorts)"
same "the volume" "map[/var/lib/embsum:{}]" "$(field .Docker.Config.Volumes)"
same "the stop signal" "SIGTERM" "$(field .Docker.Config.StopSignal)"
same "the health check" "[CMD embsum-healthcheck]" "$(field .Docker.Config.Healthcheck.Test)"
[ "$(field .Docker.Config.Labels | grep -c org.opencontainers.image.title)" = 1 ] || fail "the image has no title"

say "what is in it"
container=$(b from --pull-never embsum)
b copy -q --chown 10001:10001 "$container" deploy/demo /demo >/dev/null
run() {
    b run --isolation chroot --network host --env "EMBSUM_SERVER_LISTEN=127.0.0.1:$port" "$container" -- "$@"
}
port=18080
while curl -s -o /dev/null "http://127.0.0.1:$port/" || [ $? != 7 ]; do
    port=$((port + 1))
    [ "$port" -lt 18180 ] || fail "no free port"
done
same "the user's id" 10001 "$(run id -u)"
run embsum --version
run embsumd --version
for tool in gcc cc g++ c++ cpp ld as make pkg-config git curl python3; do
    run sh -c "! command -v $tool" || fail "$tool is in the image"
done
for tool in sh sleep timeout flock perl; do
    run sh -c "command -v $tool" >/dev/null || fail "$tool, which deploy/compose or deploy/kubernetes starts, is not in the image"
done
same "development packages" "" "$(run sh -c "dpkg-query -W -f '\${Package}\n' | grep -e '-dev\$' || true")"
same "libraries that are missing" "" "$(run sh -c 'ldd /usr/local/bin/embsumd /usr/local/bin/embsum | grep "not found" || true')"
same "programs that the user could change" "" "$(run find /usr/local/bin /etc/embsum -writable ! -type l)"

say "no daemon beyond the loopback address without tokens"
! b run --isolation chroot --network host "$container" -- embsumd --config /etc/embsum/embsum.json 2>"$work/refused.log" ||
    fail "embsumd starts for everybody"
grep -q server.token_file "$work/refused.log" || fail "embsumd does not say what it wants: $(cat "$work/refused.log")"

say "a store made there, served there"
store=lmdb:/var/lib/embsum/store
run embsum init --config /demo/model/config.json --vocab /demo/model/spiece.model --seed 1 --out /var/lib/embsum/model
run embsum refresh --quiet --model /var/lib/embsum/model --news /demo/news.tsv --behaviors /demo/behaviors.tsv --store $store
run sh -c 'echo $$ >/tmp/embsumd.pid && exec embsumd --config /etc/embsum/embsum.json' >"$work/embsumd.log" 2>&1 &
runner=$!
root=$(b mount "$container")
# chroot isolation shares the machine's process ids. Ends the daemon and gives its exit code.
stop_daemon() {
    kill "$(cat "$root/tmp/embsumd.pid")" 2>/dev/null || true
    code=0
    wait "$runner" || code=$?
    runner=''
    return "$code"
}
url=http://127.0.0.1:$port
tries=100
until curl -sf -o /dev/null "$url/readyz"; do
    tries=$((tries - 1))
    if [ "$tries" = 0 ] || ! kill -0 "$runner"; then
        cat "$work/embsumd.log" >&2
        fail "embsumd does not get ready"
    fi
    sleep 0.1
done
run embsum-healthcheck && run embsum-healthcheck /readyz || fail "the health check says no while the daemon is up"
answer=$(curl -sS --fail-with-body -H 'Content-Type: application/json' \
    -d '{"user": "U20", "candidates": ["N1269", "N1201", "nowhere"]}' "$url/rank") || fail "POST /rank: $answer"
echo "$answer"
case $answer in
*'"score"'*'"score"'*'"nowhere"'*) ;;
*) fail "the answer lacks two scores and one missing id" ;;
esac
stop_daemon || fail "embsumd ended with $? on SIGTERM"
! run embsum-healthcheck >/dev/null 2>&1 || fail "the health check says yes while the daemon is down"
say "the image works"
