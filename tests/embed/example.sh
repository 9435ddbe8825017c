#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# example.sh - the example does what its first lines say: runs a definition, shows its events, answers a question, goes on later.
#
#   tests/embed/example.sh PROGRAM SOURCE-ROOT
set -euo pipefail
program=$1 root=$2
folder=$(mktemp -d "${TMPDIR:-/tmp}/perdure-embed.XXXXXX")
trap 'rm -rf "$folder"' EXIT
fail() { echo "$1"; cat "$folder/out" "$folder/err"; exit 1; }

"$program" "$folder/data" "$root/examples/embed/agent.json" '"What are you?"' >"$folder/out" 2>"$folder/err" || fail "the run failed"
grep -q '"type":"RUN_FINISHED"' "$folder/out" || fail "its last event was not shown"
grep -q '"text":"An engine that lives in your own process."' "$folder/out" || fail "its output was not shown"

run=$(sed -n 's/.*, run //p' "$folder/err")
"$program" "$folder/data" --follow "$run" >"$folder/again" 2>>"$folder/err" || fail "it cannot be followed again"
[ "$(grep -c '"seq"' "$folder/again")" = "$(grep -c '"seq"' "$folder/out")" ] || fail "other events the second time"

sed -n '/"definition"/,$p' "$root/examples/approval.json" | sed '1s/.*/{/; $d' >"$folder/approval.json"
echo '"yes"' | "$program" "$folder/data" "$folder/approval.json" '{"text": "Please repair the gutters."}' >"$folder/out" 2>>"$folder/err" ||
    fail "the run with a question failed"
grep -q 'the run asks' "$folder/out" || fail "nothing was asked"
grep -q '"sent":true' "$folder/out" || fail "the answer had no effect"

if "$program" "$folder/data" "$root/meson.build" >"$folder/out" 2>"$folder/err"; then fail "that is no definition"; fi
grep -q malformed_json "$folder/err" || fail "the error was not shown"
