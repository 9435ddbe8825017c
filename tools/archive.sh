#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# archive.sh - makes libperdure.a of the inner library: one object, in which what is hidden is local.
#
#   tools/archive.sh INNER.a OUT.a FOLDER LD OBJCOPY AR
set -euo pipefail
inner=$1 out=$2 folder=$3 ld=$4 objcopy=$5 ar=$6
mkdir -p "$folder"
"$ld" -r -o "$folder/perdure.o" --whole-archive "$inner"
"$objcopy" --localize-hidden "$folder/perdure.o"
rm -f "$out"
"$ar" rcsD "$out" "$folder/perdure.o"
