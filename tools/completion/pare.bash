# SPDX-License-Identifier: Apache-2.0
# Bash completion for pare. Options are read from `pare COMMAND --help`, so they are always those of the installed tool.
_pare() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd=${COMP_WORDS[1]} bin=${COMP_WORDS[0]}
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        COMPREPLY=($(compgen -W "$("$bin" --help 2>/dev/null | sed -n 's/^  \([a-z][a-z]*\) .*/\1/p') --help --version" -- "$cur"))
        return
    fi
    case $prev in
    --to) COMPREPLY=($(compgen -W "q4_k_m q4_k_s q5_k_m q5_k_s q6_k q3_k_m q3_k_s q3_k_l q2_k q8_0 q4_0 q4_1 q5_0 q5_1 iq4_nl iq4_xs int8 int4 int4:g32 int4:g64 int4:g128 int4:g32:asym int4:g128:asym f16 bf16 f32" -- "$cur")) && return ;;
    --act) COMPREPLY=($(compgen -W "none f16 int8-token int8-block" -- "$cur")) && return ;;
    --device) COMPREPLY=($(compgen -W "cpu cuda $([ "$cmd" = verify ] && echo cpu,cuda)" -- "$cur")) && return ;;
    --pattern) COMPREPLY=($(compgen -W "unstructured 2:4 4:8 block block:4x4 heads query-heads ffn hidden width layers" -- "$cur")) && return ;;
    --scope) COMPREPLY=($(compgen -W "row layer global" -- "$cur")) && return ;;
    --method) COMPREPLY=($(compgen -W "$([ "$cmd" = prune ] && echo magnitude wanda sparsegpt activation influence angular || echo rtn search awq gptq)" -- "$cur")) && return ;;
    --train) COMPREPLY=($(compgen -W "all norms scales" -- "$cur")) && return ;;
    --optimizer) COMPREPLY=($(compgen -W "adamw sgd" -- "$cur")) && return ;;
    --schedule) COMPREPLY=($(compgen -W "cosine linear constant" -- "$cur")) && return ;;
    --divergence) COMPREPLY=($(compgen -W "forward reverse js" -- "$cur")) && return ;;
    --loss) COMPREPLY=($(compgen -W "kl ce hidden cosine kl=1,ce=0.5 kl=1,hidden=1" -- "$cur")) && return ;;
    --format) COMPREPLY=($(compgen -W "gguf folder safetensors" -- "$cur")) && return ;;
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$("$bin" "$cmd" --help 2>/dev/null | grep -oE -- '(^  |, )-{1,2}[a-z][a-z0-9-]*' | grep -oE -- '-.*') --help" -- "$cur"))
    else
        compopt -o filenames 2>/dev/null
        COMPREPLY=($(compgen -f -- "$cur"))
    fi
}
complete -F _pare pare
