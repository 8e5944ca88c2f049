# SPDX-License-Identifier: Apache-2.0
# make install into a scratch root; a stranger's program against the installed library; every header compiles alone;
# man page and completion know every option that --help prints.
set -eu
B=$1
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
make --no-print-directory install B="$B" DESTDIR="$D" PREFIX=/usr >/dev/null
cat >"$D/stranger.c" <<'TXT'
#include <pare/pare.h>
#include <stdio.h>
int main(void) {
    pare_diag d = {PARE_OK, "", "", ""};
    pare_model *m = NULL;
    char line[256];
    pare_status s = pare_model_open("/does/not/exist", &m, &d);
    printf("%d %s\n", pare_exit_status(s), pare_diag_line(&d, line, sizeof line));
    pare_model_close(&m);
    return s == PARE_OK;
}
TXT
gcc -std=c11 -Wall -Wextra -Werror -pedantic -I"$D/usr/include" "$D/stranger.c" -o "$D/stranger" -L"$D/usr/lib" -lpare
LD_LIBRARY_PATH="$D/usr/lib" "$D/stranger" | grep '^3 /does/not/exist'
# the shared library shows the public names and nothing else
nm -D --defined-only "$D/usr/lib/libpare.so.0" | awk '$2 == "T" { print $3 }' | while read -r f; do
    grep -q "\b$f(" include/pare/*.h || { echo "libpare.so exports $f, which pare.h does not declare"; exit 1; }
done
if [ -e "$D/usr/lib/libpare-cuda.so" ]; then
    [ "$(nm -D --defined-only "$D/usr/lib/libpare-cuda.so" | awk '$2 == "T" { print $3 }')" = pare_plugin ] || { echo "libpare-cuda.so exports more than its entry"; exit 1; }
    ! ldd "$D/usr/bin/pare" "$D/usr/lib/libpare.so.0" | grep -i cuda || { echo "the program itself needs a CUDA library"; exit 1; }
fi
if command -v g++ >/dev/null; then echo '#include <pare/pare.h>' | g++ -std=c++17 -Wall -Wextra -Werror -I"$D/usr/include" -fsyntax-only -x c++ -; fi
for h in $(git ls-files 'core/*.h' 'graph/*.h' 'formats/*.h' 'models/*.h' 'cpu/*.h' 'quant/*.h' 'verify/*.h' 'api/*.h' 'tools/*.h'); do
    case $h in *_impl.h | *simd.h | *lanes.h | *logit_exp.h) continue ;; esac # bodies meant to be included by one kernel file each
    gcc -std=gnu17 -Iinclude -I. -I"$B" -fsyntax-only -x c "$h" || { echo "$h does not compile alone"; exit 1; }
done
pare="$D/usr/bin/pare"
for cmd in $("$pare" --help | sed -n 's/^  \([a-z][a-z]*\)  *.*/\1/p'); do
    "$pare" "$cmd" --help | grep -q '^examples:' || { echo "pare $cmd --help has no examples"; exit 1; }
    for opt in $("$pare" "$cmd" --help | sed -n 's/^  \(-[a-z], \)\{0,1\}\(--[a-z0-9-]*\).*/\2/p'); do
        sed 's/\\-/-/g' "$D/usr/share/man/man1/pare.1" | grep -q -- "$opt" || { echo "$cmd $opt is not in the man page"; exit 1; }
        if command -v bash >/dev/null; then
            PATH="$D/usr/bin:$PATH" bash -c '. "$1"; COMP_WORDS=(pare "$2" "$3"); COMP_CWORD=2; _pare; [[ " ${COMPREPLY[*]} " == *" $3 "* ]]' \
                _ "$D/usr/share/bash-completion/completions/pare" "$cmd" "$opt" || { echo "completion misses $cmd $opt"; exit 1; }
        fi
    done
done
make --no-print-directory uninstall DESTDIR="$D" PREFIX=/usr
[ -z "$(find "$D/usr" -type f)" ] || { echo "uninstall leaves:"; find "$D/usr" -type f; exit 1; }
