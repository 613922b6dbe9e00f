"""The scripts of `nqr completion`. Each asks `nqr _complete` for the words that can stand at the cursor.

An answer has a line for each word: the word, a tab, and its help. The line `:files` asks the shell for names of files.
bash(1) “Programmable Completion”, zshcompsys(1), fish “Writing your own completions”.
"""

from __future__ import annotations

FILES = ":files"
_BASH = r"""# Completion of nqr for bash. For this shell: source <(nqr completion bash)
_nqr_complete() {
    local word help
    COMPREPLY=()
    while IFS=$'\t' read -r word help; do
        if [ "$word" = ":files" ]; then
            compopt -o default 2>/dev/null
            return
        fi
        COMPREPLY+=("$word")
    done < <(nqr _complete bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
complete -F _nqr_complete nqr
"""
_ZSH = r"""#compdef nqr
# Completion of nqr for zsh. For this shell, after compinit: source <(nqr completion zsh)
_nqr() {
    local -a shown
    local word help
    while IFS=$'\t' read -r word help; do
        if [[ $word == ":files" ]]; then
            _files
            return
        fi
        shown+=("${word//:/\\:}${help:+:$help}")
    done < <(nqr _complete zsh "${(@Q)words[2,CURRENT]}" 2>/dev/null)
    (( $#shown )) && _describe -t nqr nqr shown
}
if [[ ${funcstack[1]} == _nqr ]]; then
    _nqr "$@"
else
    compdef _nqr nqr
fi
"""
_FISH = r"""# Completion of nqr for fish. For this shell: nqr completion fish | source
function __nqr_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l found (nqr _complete fish $words[2..-1] "$current" 2>/dev/null)
    if test "$found[1]" = ":files"
        __fish_complete_path "$current"
    else if set -q found[1]
        printf '%s\n' $found
    end
end
complete -c nqr -f -a '(__nqr_complete)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
