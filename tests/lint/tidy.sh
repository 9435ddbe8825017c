#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tidy.sh BUILD - clang-tidy over src/, with the checks of .clang-tidy. Exit 1 when it finds something.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1
tidy=$(command -v clang-tidy-14 || command -v clang-tidy)
# gcc's own warning options mean nothing to clang; that is no finding.
git ls-files -co --exclude-standard 'src/*.c' | while IFS= read -r f; do [ -f "$f" ] && echo "$f"; done |
    xargs -r -P "$(nproc)" -n 1 "$tidy" -p "$build" --quiet --warnings-as-errors='*' \
        --extra-arg=-Wno-unknown-warning-option 2> >(grep -vE '^[0-9]+ warnings? (generated|treated as error)' >&2)
