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

# Killed in the middle of a run: the next process has the rest of it.
cat >"$folder/slow.json" <<'JSON'
{"format": 1, "agent": {"model": {"provider": "scripted", "model": "writer", "script": {
  "text": "a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e f g h i j k l m n o p q r s t u v w x y z", "interval_ms": 20}}}}
JSON
"$program" "$folder/data" "$folder/slow.json" '"go"' >"$folder/out" 2>"$folder/err" &
pid=$!
for _ in $(seq 600); do
    [ "$(wc -l <"$folder/out")" -lt 10 ] || break
    sleep 0.02
done
kill -9 "$pid"
wait "$pid" 2>/dev/null || true
seen=$(grep -c '"seq"' "$folder/out") || fail "nothing was shown before it was killed"
grep -q RUN_FINISHED "$folder/out" && fail "it was not killed in the middle"
run=$(sed -n 's/.*, run //p' "$folder/err")
"$program" "$folder/data" --follow "$run" >"$folder/again" 2>>"$folder/err" || fail "it does not go on"
head -n "$((seen - 1))" "$folder/out" | cmp - <(head -n "$((seen - 1))" "$folder/again") || fail "what was seen has changed"
grep -q '"type":"RUN_RECOVERED"' "$folder/again" || fail "it was not recovered"
grep -q '"type":"RUN_FINISHED"' "$folder/again" || fail "it has no end"
