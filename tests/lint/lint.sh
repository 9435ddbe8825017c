#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# lint.sh - the rules that a machine can check. Prints what is wrong, then `N passed, N failed, N skipped` (checks, not lines).
#
# Each check is a function that prints one line per finding, `file:line: what`, and nothing when all is well.
set -uo pipefail
cd "$(dirname "$0")/../.."
export LC_ALL=C # columns are counted in bytes that begin a character, by any awk
here=tests/lint

# What is in the repo, or would be with the next `git add`.
all_files() {
    if [ -e .git ]; then git ls-files -co --exclude-standard; else find . -type f -not -path './build*' | sed 's|^\./||'; fi |
        sort -u | while IFS= read -r f; do [ ! -f "$f" ] || printf '%s\n' "$f"; done
}
files=$(all_files)
c_files=$(grep -E '^(src|include|tests|bench)/.*\.[ch]$' <<<"$files")
own_text=$(grep -E '(\.(c|h|md|sh|mjs|js|ts|json|txt|build|awk|yml|yaml)|/run|^dev|^meson_options.txt|^\.[a-z-]+)$' <<<"$files" |
    grep -vE '(^|/)package-lock\.json$')

# The arrows between folders, and each library behind its one folder.
check_includes() {
    grep -E '^src/' <<<"$c_files" | xargs -r awk '
        FNR == NR {
            sub(/#.*/, "")
            if ($1 == "lib") { lib = $2; sub(/:$/, "", lib); for (i = 3; i <= NF; i++) home[lib, $i] = 1; libs[lib] = 1 }
            else if ($1 ~ /:$/) { from = $1; sub(/:$/, "", from); known[from] = 1
                                  for (i = 2; i <= NF; i++) may[from, $i] = 1 }
            next
        }
        /^[ \t]*#[ \t]*include/ {
            split(FILENAME, part, "/"); from = part[2]
            if (!(from in known)) { print FILENAME ":" FNR ": folder " from " is not in tests/lint/includes.txt"; next }
            name = $0; sub(/^[^"<]*["<]/, "", name); sub(/[">].*/, "", name)
            if ($0 ~ /"/ && index(name, "/")) {
                to = name; sub(/\/.*/, "", to)
                if (to != from && !((from, to) in may))
                    print FILENAME ":" FNR ": " from " may not include \"" name "\""
            } else if ($0 ~ /"/ && name ~ /^\.\./)
                print FILENAME ":" FNR ": name the folder instead of \"" name "\""
            for (lib in libs)
                if (index(name, lib) == 1 && !((lib, from) in home))
                    print FILENAME ":" FNR ": <" name "> belongs behind another folder"
        }' "$here/includes.txt"
}

# First line: the licence. Then a comment that says what the file is for, beginning with its name.
check_heads() {
    xargs -r awk '
        FNR == 1 && $0 != "/* SPDX-License-Identifier: Apache-2.0 */" { print FILENAME ":1: the first line is not the SPDX line" }
        FNR == 2 && FILENAME ~ /^tests/ && !/^\/\* ./ { print FILENAME ":2: expected a comment that says what is tested" }
        FNR == 2 && FILENAME !~ /^tests/ {
            n = split(FILENAME, part, "/")
            if (index($0, "/* " part[n] " - ") != 1) print FILENAME ":2: expected `/* " part[n] " - what it is for`" }
        ' <<<"$c_files"
    grep -E '(\.sh|\.mjs|^dev|/run|meson\.build|^meson_options\.txt)$' <<<"$files" | while IFS= read -r f; do
        head -n 3 "$f" | grep -q 'SPDX-License-Identifier: Apache-2.0' || echo "$f:1: no SPDX line"
    done
}

# 120 columns are the habit; tables, which are hand-made, may take 140, and tables of test cases 160.
check_space() {
    xargs -r awk '
        /\t/ { print FILENAME ":" FNR ": tab" }
        /[ \r]$/ { print FILENAME ":" FNR ": blank at the end of the line" }
        { wide = $0; gsub(/[\200-\277]/, "", wide)
          if (length(wide) > (FILENAME ~ /^tests/ ? 160 : 140)) print FILENAME ":" FNR ": " length(wide) " columns" }' <<<"$c_files"
    xargs -r -d '\n' awk '/[ ]$/ && FILENAME !~ /\.txt$/ { print FILENAME ":" FNR ": blank at the end of the line" }' <<<"$own_text"
}

# A repo that works anywhere names no place: no home folders, no workplaces, no download servers.
check_places() {
    # The brackets keep these patterns from finding themselves.
    local place='(^|[^A-Za-z0-9_.])/(wor[k]/|hom[e]/[a-z]|Use[r]s/|roo[t]/|op[t]/[a-z]|mn[t]/)'
    local host='https?://[a-z0-9.-]*(registr[y]|prox[y]|mirro[r]|artifactor[y])[a-z0-9.-]*[/:"]|"resolve[d]": *"http'
    xargs -r -d '\n' grep -nIE "$place|$host" /dev/null <<<"$files" | cut -c1-160
}

check_lists() { "$here/sources.sh" check; }

check_shell() {
    grep -E '(\.sh|^dev|^\.ci/run)$' <<<"$files" | while IFS= read -r f; do
        bash -n "$f" 2>&1
        [ -x "$f" ] || echo "$f:1: not executable"
    done
}

# Links between pages of the manual lead somewhere.
check_links() {
    grep -E '\.md$' <<<"$files" | while IFS= read -r f; do
        grep -noE '\]\([^)# ]+' "$f" | while IFS= read -r hit; do
            local target=${hit#*](}
            case $target in http://* | https://* | mailto:*) continue ;; esac
            [ -e "$(dirname "$f")/$target" ] || echo "$f:${hit%%:*}: no such file: $target"
        done
    done
}

check_json() {
    grep -E '^(examples|tests/unit|docs)/.*\.json$' <<<"$files" | while IFS= read -r f; do
        python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$f" 2>/dev/null || echo "$f:1: not JSON"
    done
}

passed=0 failed=0
for check in includes heads space places lists shell links json; do
    found=$("check_$check")
    if [ -z "$found" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'lint %s:\n' "$check"
        sed 's/^/  /' <<<"$found" | head -n 40
    fi
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
