#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# demo.sh PERDURE - a run streams, the server is killed in the middle of it, and nobody who watches loses a word.
#
# `./dev demo` builds the program and runs this. It uses the perdure command and nothing else: two followers watch one run,
# one prints its text here, the other writes each event as a line of JSON, and the lines are checked at the end. Whatever is
# not as promised ends it with a message and a non-zero status.
set -euo pipefail
cd "$(dirname "$0")/.."
perdure=$(realpath "${1:-build/perdure}")
agent=examples/writer.json
letter=examples/letter.txt
kill_after=40   # events that the follower has seen when the server dies

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else bold='' dim='' green='' red='' plain=''; fi

work=$(mktemp -d "${TMPDIR:-/tmp}/perdure-demo.XXXXXX")
data=$work/data events=$work/events.ndjson log=$work/server.log
server='' watcher='' recorder=''

clean_up() {
    local status=$?
    for pid in $watcher $recorder $server; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    if [ $status -ne 0 ] && [ -s "$log" ]; then
        echo "${dim}last lines of the server's log:" >&2
        tail -n 8 "$log" >&2
        printf '%s' "$plain" >&2
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

number=0
step() { number=$((number + 1)); printf '\n%s%d. %s%s\n' "$bold" "$number" "$*" "$plain"; }
note() { printf '   %s%s%s\n' "$dim" "$*" "$plain"; }
fail() { printf '\n%sThe demo failed: %s%s\n' "$red" "$*" "$plain" >&2; exit 1; }

# wait_until SECONDS WHAT COMMAND...: polls, because there is nothing to block on; gives up with a message.
wait_until() {
    local tries=$(($1 * 20)) what=$2
    shift 2
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "$what"
        sleep 0.05
    done
}

seen() { grep -c . "$events" 2>/dev/null || true; }

start_server() { # address:port
    : >"$work/ready"
    # A server started by hand would be `perdure serve`; the addresses are all that differs.
    "$perdure" serve --listen "$1" --data "$data" >"$work/ready" 2>>"$log" &
    server=$!
    wait_until 20 "the server did not start" server_is_ready
    url=$(grep -m 1 -oE 'http://[0-9.:]+' "$work/ready")
}
server_is_ready() {
    kill -0 "$server" 2>/dev/null || fail "the server ended while it started"
    grep -q '^listening on http' "$work/ready"
}

printf '%sPerdure: a run that survives kill -9%s\n' "$bold" "$plain"

step "Start a server on a free port, with an empty data folder"
start_server 127.0.0.1:0
PERDURE_URL=$url
PERDURE_TOKEN=$(head -n 1 "$data/token")
export PERDURE_URL PERDURE_TOKEN
note "$url   (the first start made a token in the data folder)"

step "Publish an agent: $agent"
"$perdure" agents apply "$agent" | sed 's/^/   /'

step "Start a run: the agent reads $letter"
run=$("$perdure" run writer --text "$letter" --detach)
note "run $run"

step "Follow it. The server will be killed after $kill_after events; keep an eye on the text"
echo
"$perdure" runs follow "$run" --json >"$events" 2>"$work/recorder.log" &
recorder=$!
"$perdure" runs follow "$run" &
watcher=$!
enough() { [ "$(seen)" -ge "$kill_after" ]; }
wait_until 60 "the follower did not see $kill_after events" enough

kill -9 "$server"
wait "$server" 2>/dev/null || true
server=''
sleep 1 # until what was on its way has been printed
at_kill=$(seen)
kill -0 "$recorder" 2>/dev/null || fail "the follower ended before the server was killed"
echo
step "Killed it: kill -9, in mid-stream. The follower had $at_kill events and is still there, trying again"
sleep 1

step "Start it again: same port, same data folder"
echo
start_server "${url#http://}"
ended() { ! kill -0 "$recorder" 2>/dev/null; }
wait_until 120 "the follower did not see the end of the run" ended
wait "$recorder" || fail "the follower ended with status $?: $(tail -n 1 "$work/recorder.log")"
recorder=''
wait "$watcher" || true
watcher=''

step "Check what the follower received"
awk '{ if (!match($0, /"seq": *[0-9]+/)) { print "line " NR " has no seq"; exit 1 }
       seq = substr($0, RSTART, RLENGTH); sub(/.*[^0-9]/, "", seq)
       if (seq + 0 != NR) { print "line " NR " is seq " seq; exit 1 } }' "$events" ||
    fail "the events are not 1, 2, 3 …"
total=$(seen)
[ "$total" -gt "$at_kill" ] || fail "nothing came after the restart"
tail -n 1 "$events" | grep -qE '"type": *"RUN_FINISHED"' || fail "the last event is not RUN_FINISHED"
"$perdure" runs follow "$run" --json >"$work/again.ndjson" 2>/dev/null
cmp -s "$events" "$work/again.ndjson" || fail "the ledger, read again, is not what the follower received"
note "$at_kill events before the kill, $((total - at_kill)) after it; seq 1 to $total, no gap, none twice"
note "read again from the ledger: the same $total events, byte for byte"

printf '\n%sScene two: a person is asked, and answers after a restart%s\n' "$bold" "$plain"

# A figure of /metrics, without curl.
figure() {
    local line
    exec 3<>"/dev/tcp/127.0.0.1/${url##*:}"
    printf 'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' >&3
    line=$(grep -a "^perdure_$1 " <&3)
    exec 3>&-
    echo "${line##* }" | tr -d '\r'
}
run_is() { "$perdure" runs show "$1" --json | grep -q "\"status\": *\"$2\""; }
# The first member of that name in the JSON on stdin.
member() { grep -oE "\"$1\": *\"[^\"]*\"" | head -n 1 | cut -d '"' -f 4; }

step "An agent drafts an answer and asks before it sends it: examples/approval.json"
"$perdure" agents apply examples/approval.json | sed 's/^/   /'
asked=$("$perdure" run approval --text "$letter" --detach)
wait_until 30 "the run did not ask" run_is "$asked" waiting_for_human
"$perdure" approvals list | sed 's/^/   /'

step "While it waits: kill -9 and start again. Waiting runs cost nothing; they come back when somebody answers"
{ kill -9 "$server" && wait "$server"; } 2>/dev/null || true
start_server "${url#http://}"
approval=$("$perdure" approvals list --run "$asked" --json | member approval_id)
[ -n "$approval" ] || fail "the question is gone"

step "The answer arrives, and the run ends"
"$perdure" approvals approve "$approval" --input '"yes"' | sed 's/^/   /'
wait_until 30 "the run did not end" run_is "$asked" completed
note "$("$perdure" runs show "$asked" --json | grep -oE '"output": *\{[^}]*\}' | head -n 1)"

step "Replay it strictly: the same run once more, from its first checkpoint, with every answer taken from the ledger"
calls=$(figure model_calls_total)
replay=$("$perdure" runs replay "$asked" first --mode strict --json | member run_id)
wait_until 30 "the strict replay did not complete" run_is "$replay" completed
[ "$(figure model_calls_total)" = "$calls" ] || fail "the replay called a model"
note "completed, with the recorded answer, and not one model call: it cost nothing"

printf '\n%sScene three: a workflow is killed in the middle of its work%s\n' "$bold" "$plain"

items=40        # of the fan-out
kill_items=14   # items that are done when the server dies

step "$items items, four at a time: examples/workflows/fan-out.yaml, followed as NDJSON"
printf '{"items": [%s]}' "$(seq -s '", "item ' "$items" | sed 's/^/"item /; s/$/"/')" >"$work/items.json"
lines=$work/workflow.ndjson
"$perdure" run examples/workflows/fan-out.yaml --input "@$work/items.json" --server "$url" --ndjson >"$lines" 2>"$work/recorder.log" &
recorder=$!
called() { grep -c '"type":"node_llm_call"' "$lines" 2>/dev/null || true; }
enough_items() { [ "$(called)" -ge "$kill_items" ]; }
wait_until 60 "the workflow did not get to item $kill_items" enough_items

{ kill -9 "$server" && wait "$server"; } 2>/dev/null || true
server=''
sleep 0.5
at_kill=$(called)
step "Killed it: kill -9, with $at_kill items done. Start it again: same port, same data folder"
start_server "${url#http://}"
wait_until 60 "the workflow did not end" ended
wait "$recorder" || fail "the workflow ended with status $?: $(tail -n 1 "$work/recorder.log")"
recorder=''

step "Check the lines"
awk -F '"seq":' '{ if ($2 + 0 != NR) { print "line " NR " is seq " $2 + 0; exit 1 } }' "$lines" || fail "the lines are not 1, 2, 3 …"
tail -n 1 "$lines" | grep -q '"type":"run_completed"' || fail "the last line is not run_completed"
[ "$(called)" = "$items" ] || fail "$(called) items were worked on, not $items"
[ "$at_kill" -lt "$items" ] || fail "nothing was left to do after the restart"
flow=$(head -n 1 "$lines" | member run_id)
"$perdure" runs show "$flow" --json | grep -oE '"text": *"item [0-9]+"' | grep -oE '[0-9]+' >"$work/order"
seq "$items" | cmp -s - "$work/order" || fail "the results are not in the order of the items"
note "$at_kill items before the kill, $((items - at_kill)) after it: none twice, and the results in order"

kill "$server"
wait "$server" 2>/dev/null || fail "the server did not stop cleanly after SIGTERM"
server=''

cat <<END

${green}It held.${plain} The follower kept its place, the question waited, no item was done twice, and nobody had to start anything over.

Now you:
  ./dev serve                                    a server on http://127.0.0.1:7070
  export PERDURE_TOKEN=dev
  build/perdure agents apply examples/writer.json
  build/perdure run writer --text examples/letter.txt
  build/perdure run examples/workflows/document-pipeline.yaml --text examples/letter.txt
  build/perdure help                             everything else; docs/guides/getting-started.md explains it
END
