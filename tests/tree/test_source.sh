#!/bin/sh
# What every text file of the tree keeps to, so that no review has to look for it.
set -u
cd "$(dirname "$0")/../.." || exit 1
failed=0

# files PATTERN...: the tree's own files (git may not be installed, so the build folder is left out by hand)
files() {
    find . \( -name .git -o -name build -o -name __pycache__ \) -prune -o -type f "$@" -print | sed 's,^\./,,' | sort
}
# refuse WHAT FOUND: FOUND must be empty
refuse() {
    [ -z "$2" ] && return
    printf '%s:\n%s\n' "$1" "$2" | head -n 40
    failed=1
}

parts=$(find core store config server batch \( -name '*.[ch]' -o -name '*.cc' \) | sort)
code=$(files \( -name '*.[ch]' -o -name '*.cc' \))
scripts=$(files \( -name '*.sh' -o -name '*.py' -o -name run -o -name quickstart -o -name fresh -o -name fuzz \
    -o -name Dockerfile -o -name install-packages \))
texts=$(files \( -name '*.md' -o -name '*.json' -o -name Makefile -o -name '*.yml' -o -name '*.yaml' \) ! -path './tests/*')
[ "$(echo "$code" | wc -l)" -gt 10 ] || refuse "too few files found, the search is broken" "$code"

{
    marker="TO""DO|FIX""ME|XX""X|HA""CK"
    refuse "unfinished work" "$(grep -nwE "$marker" $code $scripts $texts)"
    refuse "carriage returns" "$(grep -l "$(printf '\r')" $code $scripts $texts)"
    refuse "tabs" "$(grep -l "$(printf '\t')" $code $scripts)"
    refuse "spaces at the end of a line" "$(grep -nE ' +$' $code $scripts $texts)"
    refuse "bytes that are no ASCII in code" "$(LC_ALL=C grep -nP '[^\x00-\x7F]' $parts)"
    refuse "a last line without its end" "$(for f in $code $scripts $texts; do
        [ -n "$(tail -c 1 "$f")" ] && echo "$f"
    done)"
    refuse "C files of more than 500 lines" "$(for f in $(echo "$parts" | grep '\.c$'); do
        lines=$(wc -l <"$f")
        [ "$lines" -gt 500 ] && echo "$f: $lines"
    done)"
    refuse "include guards that are not EMBSUM_PATH_H" "$(for f in $(echo "$code" | grep '\.h$'); do
        guard=EMBSUM_$(echo "$f" | tr 'a-z/.-' 'A-Z___')
        grep -qx "#ifndef $guard" "$f" && grep -qx "#define $guard" "$f" || echo "$f: $guard"
    done)"
    refuse "runnable files that do not say by what" "$(for f in $(files -perm /111); do
        [ "$(head -c 2 "$f")" = '#!' ] || echo "$f"
    done)"
}

[ "$failed" = 0 ] && echo "the source keeps to its rules"
exit "$failed"
