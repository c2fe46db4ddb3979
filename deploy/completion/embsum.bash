# Completion in bash for embsum and embsumd. What it offers is what the programs' own --help says, so there is no list here that
# could be out of date. `make install` puts it where bash-completion looks; or: source deploy/completion/embsum.bash

# _embsum_options COMMAND...: a line for each of its options, with what its value is called, if it takes one
_embsum_options() {
    "$@" --help 2>/dev/null | sed -n 's/^  \(--[a-z0-9-]*\)\( [^ ][^ ]*\)\{0,1\}\( [^ ][^ ]*\)\{0,1\}  .*/\1\2/p'
}

# _embsum_value VALUE OPTION PROGRAM: what may stand behind the option
_embsum_value() {
    case $2 in
    --dtype | --against) COMPREPLY=($(compgen -W "float32 bfloat16 int8" -- "$cur")) ;;
    --store-dtype) COMPREPLY=($(compgen -W "float32 bfloat16 float16" -- "$cur")) ;;
    --ablate) COMPREPLY=($(compgen -W "none no_cpe no_upe no_grouping no_lsum" -- "$cur")) ;;
    --set) # the sections and keys of the one line of JSON that it prints
        compopt -o nospace 2>/dev/null
        COMPREPLY=($(compgen -S = -W "$("$3" --print-config 2>/dev/null | grep -oE '"[a-z0-9_]+":[{]?' |
            awk -F '"' '/[{]/ { section = $2; next } { print section "." $2 }')" -- "$cur"))
        ;;
    *)
        case $1 in
        *DIR) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
        *FILE) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        esac
        ;;
    esac
}

_embsum() {
    local program=$1 cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=("$1") options value
    COMPREPLY=()
    if [ "${program##*/}" = embsum ]; then
        if [ "$COMP_CWORD" = 1 ]; then
            COMPREPLY=($(compgen -W "$("$program" --help 2>/dev/null | sed -n 's/^  \([a-z]*\)  *.*/\1/p') --help --version" -- "$cur"))
            return
        fi
        command+=("${COMP_WORDS[1]}")
    fi
    # --option=value is three words to readline.
    if [ "$cur" = = ]; then
        cur=''
    elif [ "$before" = = ] && [ "$COMP_CWORD" -gt 2 ]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    options=$(_embsum_options "${command[@]}")
    value=$(sed -n "s/^$before //p" <<<"$options")
    if [ -n "$value" ]; then
        _embsum_value "$value" "$before" "$program"
    elif [ "${command[1]}" = generations ] && [ "$COMP_CWORD" = 2 ] && [[ $cur != -* ]]; then
        COMPREPLY=($(compgen -W "$("${command[@]}" --help 2>/dev/null |
            sed -n '1{s/.* generations //; s/ --.*//; s/[[]*NAME[]]*//g; s/|/ /g; p}')" -- "$cur"))
    else
        COMPREPLY=($(compgen -W "$(sed 's/ .*//' <<<"$options")" -- "$cur"))
    fi
}
complete -F _embsum embsum embsumd
