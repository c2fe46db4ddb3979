#!/bin/sh
# The two programs are built as the Makefile's HARDEN asks: readelf says what really came out.
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:=build}" "${MODE:=release}"
failed=0
fail() {
    echo "$1"
    failed=1
}

for program in "$BUILD/embsumd" "$BUILD/embsum"; do
    elf=$(readelf -W --file-header --program-headers --dynamic "$program" 2>/dev/null) || {
        fail "$program is not built"
        continue
    }
    # has WHAT PATTERN
    has() {
        printf '%s\n' "$elf" | grep -qE "$2" || fail "$program: $1 is missing"
    }
    has "position independence" '^ *Type: +DYN'
    has "position independence" 'FLAGS_1.* PIE'
    has "RELRO" '^ *GNU_RELRO '
    has "binding at start, which makes RELRO full" 'FLAGS_1.* NOW'
    has "a stack that is not executable" '^ *GNU_STACK .* RW '
    ! printf '%s\n' "$elf" | grep -qE '^ *LOAD .* RWE ' || fail "$program: a segment is writable and executable"
    ! printf '%s\n' "$elf" | grep -qE '\((RPATH|RUNPATH|TEXTREL)\)' || fail "$program: RPATH, RUNPATH or TEXTREL"
    # Sanitizers have checks of their own in place of _FORTIFY_SOURCE.
    symbols=$(nm -D --undefined-only "$program")
    calls() {
        printf '%s\n' "$symbols" | grep -q "$2" || fail "$program: $1 is missing"
    }
    calls "the stack protector" '__stack_chk_fail'
    case $MODE in release | debug) calls "_FORTIFY_SOURCE" '_chk@' ;; esac
    case $(uname -m) in
    x86_64)
        # main starts where an indirect branch may land. The whole program's mark needs every object of libc as well.
        objdump -d --no-show-raw-insn "$program" | grep -A 1 '<main>:$' | grep -q endbr64 || fail "$program: -fcf-protection is missing"
        ;;
    esac
done

# A library that the daemon does not use starts no threads in it, and has no holes there.
unused=$(readelf -dW "$BUILD/embsumd" | grep NEEDED | grep -E 'blas|fortran|curl|sentencepiece|dnnl|mpi' || true)
[ -z "$unused" ] || fail "embsumd loads what it does not use: $unused"

# What leaves no mark in a program: the flags are there, for C and C++.
for flag in -fstack-protector-strong -fstack-clash-protection -ftrivial-auto-var-init=zero; do
    [ "$(make -n V=1 -B BUILD=build/none MODE="$MODE" build/none/obj/server/main.o build/none/obj/core/tokenizer.o 2>/dev/null |
        grep -c -e " $flag ")" -ge 2 ] || fail "$flag is not given to every compiler"
done

[ "$failed" = 0 ] && echo "the programs are hardened"
exit "$failed"
