#!/bin/sh
# Arrows point one way: server, batch -> store, config -> core. Each foreign library has one door. The libraries
# among the parts never print, log or exit, and keep no state of their own.
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:=build}" "${MODE:=release}"
failed=0
fail() {
    echo "$1"
    failed=1
}

# ---- who includes whom -----------------------------------------------------------------------------------

# allow PART PARTS...: the only parts whose headers a part may include
allow() {
    part=$1
    shift
    [ -d "$part" ] || {
        fail "$part/ is not there"
        return
    }
    bad=$(find "$part" -name '*.[ch]' -o -name '*.cc' | sort | while read -r file; do
        grep -E '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$file" | cut -d '"' -f 2 | while read -r header; do
            case " $* " in
            *" ${header%%/*} "*) [ -f "$header" ] || echo "  $file includes $header, which is not there" ;;
            *) echo "  $file includes $header" ;;
            esac
        done
    done)
    [ -z "$bad" ] || fail "$part may include $* alone:
$bad"
}
allow core core
allow store store core
allow config config core
allow server server store config core
allow batch batch store config core

# ---- one door to each library ----------------------------------------------------------------------------

# door HEADER COUNT PATTERN: only files whose path matches PATTERN include HEADER, at most COUNT of them
door() {
    users=$(grep -rslE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]$1[>\"]" --include='*.[ch]' --include='*.cc' \
        core store config server batch | sort)
    count=$(printf '%s' "$users" | grep -c .)
    strays=$(printf '%s' "$users" | grep -vE "^($3)\$")
    [ -z "$strays" ] || fail "$1 belongs into $3 alone, not into:
$strays"
    [ "$count" -le "$2" ] || fail "$1 is included by $count files, at most $2 may:
$users"
}
door 'microhttpd\.h' 1 'server/.*\.c'
door 'cblas\.h' 1 'core/.*\.c'
door '(lapacke?|openblas_config|f77blas)\.h' 0 'none'
door 'hiredis/.*' 9 'store/store_redis[a-z_]*\.[ch]'
door 'hiredis\.h' 9 'store/store_redis[a-z_]*\.[ch]'
door 'lmdb\.h' 10 '(store/store_lmdb[a-z_]*|batch/session_cache)\.[ch]'
door 'sentencepiece.*' 1 'core/tokenizer\.cc'
door 'curl/.*' 1 'batch/chat\.c'
door 'mpi\.h' 1 'batch/ranks\.c'
door 'nettle/.*' 9 'batch/.*\.c'
door 'syslog\.h' 9 '(server|batch)/.*\.c'

# ---- what the daemon loads ---------------------------------------------------------------------------------

# The network reaches it: it loads nothing that it does not use.
loaded=$(objdump -p "$BUILD/embsumd" 2>/dev/null | awk '$1 == "NEEDED" { print $2 }')
[ "$loaded" ] || fail "$BUILD/embsumd is not built"
for library in libcurl libsentencepiece libnettle; do
    case $loaded in *"$library"*) fail "embsumd loads $library, which is for embsum alone" ;; esac
done

# ---- what the libraries among the parts reference ----------------------------------------------------------

# fprintf is no sin where its stream is a file of our own, and stdout and stderr cannot be one.
never='exit|_exit|_Exit|quick_exit|abort|__assert_fail|stdout|stderr'
never="$never|printf|vprintf|dprintf|vdprintf|puts|putchar|perror|syslog|vsyslog|err|errx|warn|warnx|error"
for part in core store config; do
    archive=$BUILD/lib/$part.a
    [ -f "$archive" ] || {
        fail "$archive is not built"
        continue
    }
    # With _FORTIFY_SOURCE fprintf is __fprintf_chk.
    bad=$(nm -A --undefined-only "$archive" | sed -nE 's/^[^:]*:([^:]*): +U (.*)$/\1 \2/p' |
        sed -E 's/ __(.*)_chk$/ \1/' | grep -E " ($never)\$" | sort -u)
    [ -z "$bad" ] || fail "$part never prints, logs or exits:
$bad"
    # Sanitizers keep tables of their own in .data and .bss. Two exceptions: LMDB forbids a second environment of the
    # same files in a process, so that the store must remember those that are open; and which library multiplies is a
    # choice of the process, made once before there are threads, as OpenBLAS makes its own.
    case $MODE in
    release | debug)
        bad=$(size -A "$archive" | awk '/ex / { object = $1 }
            /^\.(data|bss) / && $2 > 0 && object != "store_lmdb_env.o" && object != "gemm.o" { print object " " $1 " " $2 }')
        [ -z "$bad" ] || fail "$part keeps no static mutable state:
$bad"
        ;;
    esac
done

[ "$failed" = 0 ] && echo "the layers hold"
exit "$failed"
