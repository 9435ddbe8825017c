#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# exports.sh - what libperdure shows is what perdure.h declares, no more and no less; and the header is C99 and C++11.
#
#   tests/embed/exports.sh perdure.h libperdure.so libperdure.a
set -uo pipefail
header=$1 shared=$2 archive=$3 failed=0
promised=$(grep -E '^PD_API' "$header" | grep -oE '\bpd_[a-z_]+\(' | tr -d '(' | sort -u)

same() { # what is found, in what
    [ -n "$1" ] && [ "$1" = "$promised" ] && return
    echo "$2: not the functions of perdure.h:"
    diff <(echo "$promised") <(echo "$1") | grep '^[<>]'
    failed=1
}
# The sanitizers' and the linker's own names are no part of the interface.
names() { nm "$@" --defined-only | awk 'NF >= 3 { print $3 }' | grep -vE '^(__|_init$|_fini$|_edata$|_end$)' | sort -u; }
same "$(names -D "$shared")" "$shared"
same "$(names -g "$archive")" "$archive"

compile() { # name compiler option...
    echo '#include <perdure.h>' | "$2" "${@:3}" -Wall -Wextra -pedantic -Werror -I"$(dirname "$header")" -fsyntax-only - || {
        echo "perdure.h is not $1"
        failed=1
    }
}
compile C99 "${CC:-cc}" -x c -std=c99
for cxx in "${CXX:-}" c++ g++ clang++-14 clang++; do
    [ -n "$cxx" ] && command -v "$cxx" >/dev/null || continue
    compile C++11 "$cxx" -x c++ -std=c++11
    break
done
exit $failed
