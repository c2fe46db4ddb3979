#!/bin/sh
# make install into a folder: what is there works from there, man finds its pages, bash completes; make uninstall takes away what
# was put there, and nothing that an administrator has edited.
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:=build}" "${MODE:=release}"
work=$(mktemp -d "${TMPDIR:-/tmp}/embsum-install.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
failed=0
fail() {
    echo "FAILED: $1"
    [ $# -lt 2 ] || sed 's/^/    /' "$2"
    failed=1
}
# The jobs of a make that runs this test are not this make's. -o: what is built stays as it is, however it was.
run_make() {
    env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -s -o all BUILD="$BUILD" MODE="$MODE" "$@" >"$work/make" 2>&1 || fail "make $*" "$work/make"
}
there() { (cd "$1" && find . -type f -o -type l | sort); }
root=$work/root

run_make install DESTDIR="$root"
prefix=$root/usr/local
for file in bin/embsum bin/embsumd bin/embsum-healthcheck share/man/man1/embsum.1 share/man/man1/embsum-refresh.1 share/man/man8/embsumd.8 \
    share/man/man5/embsum.json.5 share/bash-completion/completions/embsum share/bash-completion/completions/embsumd \
    lib/systemd/system/embsumd.service lib/systemd/system/embsum-refresh.timer lib/sysusers.d/embsum.conf share/embsum/redis/users.acl; do
    [ -f "$prefix/$file" ] || fail "no $file is installed"
done
[ "$(there "$root" | grep -cv '^\./usr/local/')" = 1 ] && [ -f "$root/etc/embsum/embsum.json" ] || fail "files elsewhere"
for program in embsum embsumd; do
    [ "$("$prefix/bin/$program" --version)" = "$("$BUILD/$program" --version)" ] || fail "$program does not start"
done
"$prefix/bin/embsumd" --config "$root/etc/embsum/embsum.json" --print-config >"$work/config" 2>&1 || fail "the configuration" "$work/config"
[ -z "$(find "$root" -perm /022 ! -type l)" ] || fail "others may write what is installed"
[ "$(there "$prefix/bin" | wc -l)" = "$(find "$prefix/bin" -type f -perm -755 | wc -l)" ] || fail "programs that cannot be run"

# Programs that the units start are there.
sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "$prefix"/lib/systemd/system/*.service | while read -r program; do
    [ -x "$root$program" ] || echo "$program"
done >"$work/missing"
[ ! -s "$work/missing" ] || fail "units start what is not there" "$work/missing"

if command -v man >/dev/null && MANPATH=$prefix/share/man man -w man >/dev/null 2>&1 || MANPATH=$prefix/share/man man -w embsum >/dev/null 2>&1; then
    for page in embsum embsum-refresh embsum.json embsumd; do
        MANPATH=$prefix/share/man man -w "$page" >/dev/null 2>&1 || fail "man does not find $page"
    done
else
    echo "skipped: man is not installed"
fi

# ---- completion, as it is installed ----

# offered WORD...: what bash offers for the last word
offered() {
    PATH=$prefix/bin:$PATH bash -c '
        . "$0"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _embsum "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf "%s\n" "${COMPREPLY[@]}"' "$prefix/share/bash-completion/completions/embsum" "$@" 2>"$work/completion"
    grep -v 'compopt' "$work/completion" | grep -q . && fail "completion complains" "$work/completion"
}
# completes EXPECTED WORD...
completes() {
    wanted=$1
    shift
    got=$(offered "$@" | paste -sd " ")
    [ "$got" = "$wanted" ] || fail "$*: \"$got\" is offered, not \"$wanted\""
}
mkdir "$work/a model" && : >"$work/a file"
completes refresh embsum refr
completes "--max-bad --max-seconds --max-shrink --max-drift" embsum refresh --max-
completes "list promote rollback drop verify" embsum generations ""
completes "rollback" embsum generations ro
completes "bfloat16" embsum refresh --dtype b
completes "bfloat16" embsum refresh --dtype = b
completes "$work/a model" embsum refresh --model "$work/a"
completes "$work/a file $work/a model" embsum refresh --news "$work/a"
completes "$work/a model" embsum refresh --model = "$work/a"
completes "" embsum refresh --threads ""
completes "--config" embsumd --co
completes "rank.users_max=" embsumd --set rank.users
completes "" embsum nothing --mo
bash -c '. "$0" && complete -p embsum embsumd' "$prefix/share/bash-completion/completions/embsumd" >"$work/complete" || fail "complete" "$work/complete"

# ---- again, and away ----

echo '{}' >"$root/etc/embsum/embsum.json"
run_make install DESTDIR="$root"
[ "$(cat "$root/etc/embsum/embsum.json")" = '{}' ] || fail "an edited configuration is written over"
: >"$prefix/share/embsum/another"
run_make uninstall DESTDIR="$root"
left=$(there "$root" | paste -sd ' ')
[ "$left" = "./etc/embsum/embsum.json ./usr/local/share/embsum/another" ] || fail "uninstall leaves $left"
rm "$root/etc/embsum/embsum.json" "$prefix/share/embsum/another"
run_make install DESTDIR="$root" PREFIX=/usr SYSCONFDIR=/opt/etc
grep -q '^ExecStart=/usr/bin/embsumd --config /opt/etc/embsum/embsum.json$' "$root/usr/lib/systemd/system/embsumd.service" ||
    fail "the unit" "$root/usr/lib/systemd/system/embsumd.service"
run_make uninstall DESTDIR="$root" PREFIX=/usr SYSCONFDIR=/opt/etc
[ -z "$(there "$root")" ] || fail "uninstall leaves $(there "$root")"
[ ! -e "$root/usr/share/embsum" ] || fail "uninstall leaves its own folders"

[ "$failed" = 0 ] && echo "install, completion and uninstall work"
exit "$failed"
