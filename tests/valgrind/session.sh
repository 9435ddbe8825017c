#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# session.sh PERDURE - a short life of a server under valgrind: runs of several kinds, followers, errors, SIGTERM.
#
# What ASan cannot see valgrind can: bytes that were never written, inside libraries too, and whatever is still reachable when
# the process ends. The last line is `N passed, N failed, N skipped`.
set -uo pipefail
cd "$(dirname "$0")/../.."
perdure=$(realpath "$1")
work=$(mktemp -d "${TMPDIR:-/tmp}/perdure-valgrind.XXXXXX")
server='' passed=0 failed=0
trap '[ -z "$server" ] || kill -9 "$server" 2>/dev/null; rm -rf "$work"' EXIT

ok() { # what command...
    local what=$1
    shift
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "not ok: $what"; fi
}
api() { # method path [body] -> body on stdout, status in $work/status
    curl -sS --max-time 60 -o "$work/body" -w '%{http_code}' -X "$1" "$url/v1/api$2" -H 'Authorization: Bearer dev' \
        -H 'Content-Type: application/json' ${3:+--data "$3"} >"$work/status" 2>"$work/curl.log"
    cat "$work/body" 2>/dev/null
}
status_is() { [ "$(cat "$work/status")" = "$1" ] || { echo "    status $(cat "$work/status"): $(head -c 300 "$work/body")"; false; }; }
member() { grep -oE "\"$1\": *\"[^\"]+\"" | head -n 1 | cut -d '"' -f 4; }

# A tool over HTTP that nobody answers for: what is left of a call that failed is looked at too.
printf '{"tools":{"away":{"kind":"http","url":"http://127.0.0.1:9/away","description":"Nobody is there.","input_schema":{"type":"object"},"repeat_safe":true}}}' \
    >"$work/config.json"
valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect,possible --errors-for-leak-kinds=definite,indirect \
    --error-exitcode=99 --log-file="$work/valgrind.log" --track-fds=no \
    "$perdure" serve --dev --listen 127.0.0.1:0 --data "$work/data" --config "$work/config.json" >"$work/out" 2>"$work/err" &
server=$!
for _ in $(seq 300); do
    grep -q '^listening on' "$work/out" && break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
url=$(grep -oE 'http://[0-9.:]+' "$work/out" | head -n 1)
if [ -z "$url" ]; then
    echo "the server did not start"
    tail -n 20 "$work/err" "$work/valgrind.log"
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi

# Three agents: a scripted model, one that fails, one that asks a person.
publish() { # name definition -> agent id
    local agent bundle
    agent=$(api POST /agents "{\"name\":\"$1\"}" | member agent_id)
    bundle=$(api POST "/agents/$agent/bundles" "{\"definition\":$2}" | member bundle_id)
    api POST "/agents/$agent/bundles/$bundle/publish" '{}' >/dev/null
    echo "$agent"
}
node() { # capability binding config
    printf '{"format":1,"entry":"a","nodes":[{"node":"a","capability_ref":"%s","capability_version":"1",' "$1"
    printf '"execution_binding":"%s","config":%s,"next":null}]}' "$2" "$3"
}
writer=$(publish writer "$(node model.chat model '{"provider":"scripted","model":"m","prompt":{"$from":"/input"},"script":{"interval_ms":1}}')")
failing=$(publish failing "$(node core.fail builtin '{"code":"broken","category":"tool"}')")
asking=$(publish asking "$(node core.human human '{"prompt":"Well?"}')")

for i in 1 2 3 4 5; do
    api POST /runs/wait "{\"agent_id\":\"$writer\",\"input\":\"text number $i\",\"timeout_seconds\":60}" >"$work/run"
    ok "run $i of the writer" grep -q '"status": *"completed"' "$work/run"
done
run=$(member run_id <"$work/run") attempt=$(member current_attempt_id <"$work/run")
curl -sS --max-time 60 -N "$url/v1/api/runs/$run/events/stream?attemptId=$attempt&afterSeq=0" -H 'Authorization: Bearer dev' >"$work/sse" 2>&1
ok "a stream ends with RUN_FINISHED" grep -q RUN_FINISHED "$work/sse"
api GET "/runs/$run/events?attemptId=$attempt&afterSeq=0&limit=5" >/dev/null
ok "polling" status_is 200
api POST /runs/wait "{\"agent_id\":\"$failing\",\"timeout_seconds\":60}" >"$work/run"
ok "a run that fails" grep -q '"status": *"failed"' "$work/run"
api POST /runs/wait "{\"agent_id\":\"$asking\",\"timeout_seconds\":60}" >"$work/run"
ok "a run that asks" grep -q '"status": *"waiting_for_human"' "$work/run"
api POST "/runs/$(member run_id <"$work/run")/resume" '{"input":{"fine":true}}' >/dev/null
ok "resume" status_is 200
slow=$(api POST /runs "{\"agent_id\":\"$asking\"}" | member run_id)
api POST "/runs/$slow/cancel" '{}' >/dev/null
ok "cancel" status_is 200

# An agent that calls tools of both sorts, a fan-out over agents, and a team.
says() { printf '{"text":"%s","interval_ms":1}' "$1"; }
agent=$(publish agent "{\"format\":1,\"agent\":{\"model\":{\"provider\":\"scripted\",\"model\":\"m\",\"script\":{\"turns\":[
    {\"tool_calls\":[{\"name\":\"kv_write\",\"arguments\":{\"key\":\"k\",\"value\":1}},{\"name\":\"away\",\"arguments\":{}}],\"interval_ms\":1},$(says Done.)]}},
    \"tools\":[{\"name\":\"kv_write\",\"by\":\"local\"},{\"name\":\"away\"}]}}")
flow=$(publish flow "{\"format\":1,\"workflow\":{\"kind\":\"workflow.v1\",\"nodes\":[{\"id\":\"fan\",\"type\":\"map.fanout\",\"input\":{
    \"items\":{\"from_input\":\"list\"},\"max_parallelism\":2,\"item_bindings\":[{\"to_placeholder\":\"item\"}],\"subnode\":{\"id\":\"sub\",
    \"type\":\"llm.responses\",\"input\":{\"request\":{\"model\":\"scripted/m\",\"script\":$(says Yes.),
    \"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"{{item}}\"}]}]}}}}}],
    \"outputs\":[{\"name\":\"all\",\"from\":\"fan\",\"pointer\":\"/results\"}]}}")
team=$(publish team "{\"format\":1,\"team\":{\"model\":{\"provider\":\"scripted\",\"model\":\"m\",\"stream\":true,\"script\":$(says Agreed.)},
    \"protocol\":\"broadcast\",\"agents\":[{\"id\":\"a\",\"role\":\"r\"},{\"id\":\"b\",\"role\":\"s\"}]}}")
api POST /runs/wait "{\"agent_id\":\"$agent\",\"input\":\"go\",\"timeout_seconds\":60}" >"$work/run"
ok "an agent with tools" grep -q '"status": *"completed"' "$work/run"
api POST /runs/wait "{\"agent_id\":\"$flow\",\"input\":{\"list\":[\"1\",\"2\",\"3\"]},\"timeout_seconds\":60}" >"$work/run"
ok "a fan-out" grep -q '"status": *"completed"' "$work/run"
api POST /runs/wait "{\"agent_id\":\"$team\",\"input\":{\"intent\":\"agree\"},\"timeout_seconds\":60}" >"$work/run"
ok "a team" grep -q '"status": *"completed"' "$work/run"
api POST /runs '{"agent_id":' >/dev/null
ok "broken JSON is refused" status_is 400
api GET /runs/none >/dev/null
ok "an unknown run" status_is 404
api GET /nothing >/dev/null
ok "an unknown path" status_is 404
api DELETE /runs >/dev/null
ok "a method that is not allowed" status_is 405
curl -sS -o "$work/body" -w '%{http_code}' "$url/v1/api/runs" >"$work/status" 2>"$work/curl.log"
ok "no credential" status_is 401
api GET '/runs?limit=2' >/dev/null
ok "a list" status_is 200
# A follower that is there when the server goes, and one that went before.
slow=$(api POST /runs "{\"agent_id\":\"$asking\"}" | member run_id)
attempt=$(api GET "/runs/$slow" | member current_attempt_id)
curl -sS --max-time 1 -N "$url/v1/api/runs/$slow/events/stream?attemptId=$attempt" -H 'Authorization: Bearer dev' >/dev/null 2>&1
curl -sS --max-time 60 -N "$url/v1/api/runs/$slow/events/stream?attemptId=$attempt" -H 'Authorization: Bearer dev' >/dev/null 2>&1 &
follower=$!
sleep 1
kill -TERM "$server"
wait "$server"
ended=$?
server=''
wait "$follower" 2>/dev/null
ok "the server ends cleanly after SIGTERM (status $ended)" [ "$ended" -eq 0 ]
ok "valgrind has nothing to say" [ ! -s "$work/valgrind.log" ]
[ ! -s "$work/valgrind.log" ] || head -n 60 "$work/valgrind.log"
[ "$ended" -eq 0 ] || tail -n 10 "$work/err"
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
