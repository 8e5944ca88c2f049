#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Writes the man page from what the tool says of itself, so that the two cannot differ. usage: mkman.sh PARE >pare.1
set -eu
pare=$1
esc() { sed -e 's/\\/\\\\/g' -e "s/^\([.']\)/\\\\\&\1/" -e 's/-/\\-/g'; }
version=$("$pare" --version | cut -d' ' -f2)
cat <<TXT
.\\" SPDX-License-Identifier: Apache-2.0
.TH PARE 1 "" "pare $version" "User Commands"
.SH NAME
pare \\- makes trained models smaller and proves that they still work
.SH SYNOPSIS
.B pare
.I COMMAND
[options]
.SH DESCRIPTION
Reads full\\-precision weights (Hugging Face folders, safetensors, GGUF), quantizes them to int8, int4 and the GGUF block
formats, writes files that other programs load, and runs the original and the reduced model side by side.
MODEL is a folder (config.json, *.safetensors, tokenizer.json), a .safetensors file or a .gguf file (the first of a split).
An existing output is never overwritten without \\-\\-force, and appears whole or not at all.
.SH COMMANDS
TXT
"$pare" --help | sed -n 's/^  \([a-z][a-z]*\)  *\(.*\)/\1 \2/p' | while read -r cmd summary; do
    printf '.SS %s\n' "$cmd"
    printf '%s\n' "$summary" | esc
    "$pare" "$cmd" --help | esc | awk '
        NR == 1 { sub(/^usage: /, ""); print ".PP\n.B " $0; next }
        /^examples:/ { ex = 1; print ".PP\nExamples:\n.PP\n.nf"; next }
        ex && /^$/ { print ".fi\n.PP"; ex = 0; next }
        ex { print; next }
        /^  \\-/ { line = substr($0, 3); cut = match(line, /  +/); left = cut ? substr(line, 1, cut - 1) : line
                  right = cut ? substr(line, cut + RLENGTH) : ""; print ".TP\n.B " left; print right; next }
        /^$/ { next }
        { print }
        END { if (ex) print ".fi" }'
done
cat <<'TXT'
.SH EXIT STATUS
0 done; 1 a quality gate failed; 2 usage; 3 bad input file; 4 the machine failed (disk, memory, device); 130 interrupted.
.SH ENVIRONMENT
.TP
.B PARE_CPU
highest instruction level to use: ref, avx2, avx512, vnni, bf16, amx.
.TP
.B TMPDIR
where benchmarks make their files.
.SH FILES
Temporary outputs lie beside the output's name until they are complete.
TXT
