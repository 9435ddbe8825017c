#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [SCENE…] - measures Perdure beside what it is compared with, in the same minutes on the same machine.
#
# `./dev bench` builds the program and runs this; bench/README.md says what each scene compares. Every figure is a median of
# $BENCH_REPEATS runs (3). What is slower than the aim is shown as missed, and the status is 0 all the same: time passes or
# fails no test. All addresses are 127.0.0.1; only processes that were started here are ended.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
all_scenes=(append post create wait fanout latency tokens agents cancel replay teams streams footprint workflow scale)
repeats=${BENCH_REPEATS:-3}
perdure=${PERDURE_BIN:-$root/build/perdure}
tools=${BENCH_TOOLS:-$root/build/bench}

say() { printf '%s\n' "$*" >&2; }
die() { say "bench: $*"; exit 1; }

scenes=("$@")
[ $# -gt 0 ] || scenes=("${all_scenes[@]}")
for scene in "${scenes[@]}"; do
    [[ " ${all_scenes[*]} " = *" $scene "* ]] || die "no such scene: $scene (there are: ${all_scenes[*]})"
done
[[ $repeats =~ ^[1-9][0-9]*$ ]] || die "BENCH_REPEATS is not a number: $repeats"

# ---- tools, folders, processes ----------------------------------------------------------------------------------------

if [ -z "${BENCH_TOOLS:-}" ]; then
    names=(append read scale sync sqlite_index floor follow http provider)
    ninja -C build "${names[@]/#/bench/bench-}" >build/compile-bench.log 2>&1 || { tail -n 30 build/compile-bench.log >&2; die "the tools do not build"; }
fi
ulimit -n 20000 2>/dev/null || ulimit -n "$(ulimit -Hn)"
work=$(mktemp -d "$root/build/bench-XXXXXX") # the disk of the build folder is the one that is measured
results=$work/results
: >"$results"
started=()

end_started() {
    local pid
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
}
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

tool() { timeout 80 "$tools/bench-$1" "${@:2}"; }

stop() { # pid
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
    local pid left=()
    for pid in "${started[@]}"; do [ "$pid" = "$1" ] || left+=("$pid"); done
    started=("${left[@]}")
}

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        if ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then echo "$port"; return; fi
    done
}
wait_port() { # port seconds
    local tries=$(($2 * 20))
    until (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || die "nothing answers on port $1"
        sleep 0.05
    done
}

# ---- figures ----------------------------------------------------------------------------------------------------------

value() { sed -n "s/.*\b$1=\([^ ]*\).*/\1/p" <<<"$2 "; } # key line
calc() { awk "BEGIN { printf \"%.6g\", $1 }"; }

declare -A samples=()
keep() { samples[$1]="${samples[$1]:-} $2"; say "    $1 $2"; } # name value
median() { tr ' ' '\n' <<<"${samples[$1]}" | grep . | sort -g | awk '{ v[NR] = $1 } END { printf "%.6g", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
human() { awk -v v="$1" 'BEGIN { if (v >= 1e6) printf "%.2fM", v / 1e6; else if (v >= 1e4) printf "%.1fk", v / 1e3; else if (v >= 100) printf "%.0f", v; else if (v >= 10) printf "%.1f", v; else printf "%.2f", v }'; }

# row SCENE WHAT UNIT OURS REFERENCE AIM: a line of the table. AIM is `>=0.75` or `<=2.2` and is about OURS / REFERENCE, or, when
# REFERENCE is `-`, about OURS itself; more words may follow it. `-`: no aim.
row() {
    local ours=$4 reference=$5 ratio=- verdict='' compare=$4 shown=-
    if [ "$reference" != - ]; then
        ratio=$(calc "$ours / $reference")
        compare=$ratio
        shown="$(human "$reference")"
    fi
    if [ "$6" != - ]; then
        if awk "BEGIN { exit !($compare ${6%% *}) }"; then verdict=ok; else verdict=missed; fi
    fi
    [ "$ratio" = - ] || ratio=$(human "$ratio")
    printf '%s|%s|%s %s|%s|%s|%s|%s\n' "$1" "$2" "$(human "$ours")" "$3" "$shown" "$ratio" "$6" "$verdict" >>"$results"
}

# ---- servers ----------------------------------------------------------------------------------------------------------

auth=(--header 'Authorization: Bearer dev')
json=("${auth[@]}" --header 'Content-Type: application/json')
server='' port=''

serve() { # option...: a new folder, unless data is set
    data=${keep_data:-$work/data-$RANDOM}
    : >"$work/ready"
    "$perdure" serve --dev --listen 127.0.0.1:0 --data "$data" --max-streams 0 --log-level warn "$@" >"$work/ready" 2>>"$work/server.log" &
    server=$!
    started+=("$server")
    local tries=200
    until grep -q '^listening' "$work/ready"; do
        kill -0 "$server" 2>/dev/null || { tail -n 5 "$work/server.log" >&2; die "the server ended"; }
        tries=$((tries - 1))
        [ $tries -gt 0 ] || die "the server does not start"
        sleep 0.05
    done
    port=$(grep -m 1 -oE '[0-9]+$' "$work/ready")
    export PERDURE_URL=http://127.0.0.1:$port PERDURE_TOKEN=dev
}
unserve() { stop "$server"; [ -n "${keep_data:-}" ] || rm -rf "$data"; }

agent() { # name node-json -> its id
    printf '{"name":"%s","definition":{"format":1,"entry":"n","nodes":[%s]}}' "$1" "$2" >"$work/agent.json"
    "$perdure" agents apply "$work/agent.json" --json | grep -oE '"agent_id": *"[^"]+' | sed 's/.*"//'
}
echo_agent() {
    agent echo '{"node":"n","capability_ref":"core.echo","capability_version":"1","execution_binding":"builtin","config":{},"next":null}'
}
emit_agent() {
    agent emit '{"node":"n","capability_ref":"core.emit","capability_version":"1","execution_binding":"builtin",
        "config":{"count":{"$from":"/input/count"},"interval_ms":{"$from":"/input/ms"}},"next":null}'
}

# One request outside of a measurement: prints the status, keeps the body in $work/answer.
request() { # method path [body]
    local method=$1 path=$2 body=${3:-}
    exec 9<>"/dev/tcp/127.0.0.1/$port"
    printf '%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer dev\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' \
        "$method" "$path" "${#body}" "$body" >&9
    timeout 10 cat <&9 >"$work/answer.raw" || true
    exec 9>&-
    sed '1,/^\r$/d' "$work/answer.raw" >"$work/answer"
    sed -n '1s/^HTTP[^ ]* \([0-9]*\).*/\1/p' "$work/answer.raw"
}

# Starts runs and leaves the paths of their event streams in $work/paths.
start_runs() { # agent-id input count
    tool http --port "$port" "${json[@]}" --path /v1/api/runs --body "{\"agent_id\":\"$1\",\"input\":$2}" --conns "$(($3 < 16 ? 1 : 16))" \
        --count "$3" --save "$work/runs" >/dev/null
    sed -E 's|.*"run_id":"([^"]+)".*"current_attempt_id":"([^"]+)".*|/v1/api/runs/\1/events/stream?attemptId=\2|' "$work/runs" >"$work/paths"
}

# Durable streams are the plain publish and follow; until the program has them the scenes say so and use runs alone.
has_streams() { local status; status=$(request PUT /v1/stream/probe); [ "$status" = 201 ] || [ "$status" = 200 ]; }

nchan='' nchan_port='' nchan_worker=''
nchan_start() {
    local dir=$work/nginx
    mkdir -p "$dir"
    nchan_port=$(free_port)
    sed -e "s|@DIR@|$dir|g; s|@PORT@|$nchan_port|g; s|@USER@|$([ "$(id -u)" -ne 0 ] || echo 'user root;')|" bench/peers/nginx.conf >"$dir/nginx.conf"
    "$(command -v nginx || echo /usr/sbin/nginx)" -p /usr/lib/nginx/ -c "$dir/nginx.conf" 2>>"$dir/start.log" &
    nchan=$!
    started+=("$nchan")
    wait_port "$nchan_port" 10
    nchan_worker=$(cat /proc/"$nchan"/task/"$nchan"/children)
}
nchan_stop() { stop "$nchan"; }

floor='' floor_port=''
floor_start() { # [file]
    floor_port=$(free_port)
    "$tools/bench-floor" "$floor_port" "$@" &
    floor=$!
    started+=("$floor")
    wait_port "$floor_port" 30
}

body300=$(printf 'x%.0s' $(seq 288))

# ---- append: durable appends in process -------------------------------------------------------------------------------

append_scene() {
    local n line dir=$work/append
    for _ in $(seq "$repeats"); do
        for n in 1 64; do
            line=$(tool sync "$work" 1 300 "$n")
            keep "sync$n" "$(value rate "$line")"
        done
        for n in 1 64 1024; do
            rm -rf "$dir"
            line=$(tool append "$dir" 2.5 300 "$n")
            say "    $line"
            keep "append$n" "$(value rate "$line")"
            [ "$n" != 64 ] || keep tail64 "$(calc "$(value p99 "$line") / $(value p50 "$line")")"
        done
        rm -rf "$dir"
        mkdir "$dir"
        line=$(tool sqlite_index "$dir" 2.5 300 1024)
        keep indexed "$(value rate "$line")"
        rm -rf "$dir"
        mkdir "$dir"
        line=$(tool sqlite_index "$dir" 1 300 1)
        keep indexed1 "$(value rate "$line")"
        rm -rf "$dir"
    done
    row append "1 appender, events/s : raw sync loop" /s "$(median append1)" "$(median sync1)" ">=0.75 (0.84)"
    row append "1 appender, events/s : SQLite in one thread" /s "$(median append1)" "$(median indexed1)" -
    row append "64 appenders, events/s : raw loop, groups of 64" /s "$(median append64)" "$(median sync64)" ">=0.25 (0.4)"
    row append "64 appenders, p99 / p50" x "$(median tail64)" - "<=10"
    row append "1,024 appenders, events/s : SQLite, index by stream" /s "$(median append1024)" "$(median indexed)" ">=2.2 (4)"
    command -v strace >/dev/null || { say "    no strace: syncs are not counted"; return; }
    row append "syncs per commit, checkpoints aside" "" "$(syncs_per_commit)" - "==1"
}

# The syncs of a longer run minus those of a shorter one, by the commits in between: what opening costs falls out. Both are
# short enough that no checkpoint begins.
syncs_per_commit() {
    local syncs=() commits=() seconds line
    for seconds in 0.1 0.4; do
        rm -rf "$work/append"
        line=$(timeout 60 strace -f -qq -e trace=fsync,fdatasync,sync_file_range,msync -o "$work/strace" "$tools/bench-append" "$work/append" "$seconds" 300 1)
        syncs+=("$(grep -cE '(fsync|fdatasync|sync_file_range|msync)\(' "$work/strace")")
        commits+=("$(value all_commits "$line")")
    done
    rm -rf "$work/append"
    say "    syncs ${syncs[*]}, commits ${commits[*]}"
    calc "(${syncs[1]} - ${syncs[0]}) / (${commits[1]} - ${commits[0]})"
}

# ---- post: a durable POST ---------------------------------------------------------------------------------------------

posts() { # name path body conns seconds
    local line
    line=$(tool http --port "$port" "${json[@]}" --path "$2" --body "$3" --conns "$4" --secs "$5" --pids "$server")
    say "    $line"
    keep "$1" "$(value "$([ "$4" = 1 ] && echo p50 || echo rate)" "$line")"
}

post_scene() {
    local line id streams=''
    floor_start "$work/floor.log"
    serve
    id=$(echo_agent)
    if has_streams; then streams=yes; request PUT /v1/stream/posts >/dev/null; fi
    for _ in $(seq "$repeats"); do
        keep sync_us "$(value p50 "$(tool sync "$work" 1 300 1)")"
        line=$(tool http --port "$floor_port" --path /pub/1 --body "$body300" --conns 64 --secs 1.5 --pids "$floor")
        keep floor64 "$(value rate "$line")"
        line=$(tool http --port "$floor_port" --path /pub/1 --body "$body300" --conns 1 --secs 1 --pids "$floor")
        keep floor1_us "$(value p50 "$line")"
        if [ -n "$streams" ]; then
            posts stream64 /v1/stream/posts "{\"d\":\"$body300\"}" 64 1.5
            posts stream1_us /v1/stream/posts "{\"d\":\"$body300\"}" 1 1
        fi
        posts thread64 /v1/api/threads '{}' 64 1.5
        posts thread1_us /v1/api/threads '{}' 1 1
        posts run64 /v1/api/runs "{\"agent_id\":\"$id\",\"input\":{\"n\":%N}}" 64 1.5
        sleep 0.5 # what these runs still do
        posts run1_us /v1/api/runs "{\"agent_id\":\"$id\",\"input\":{\"n\":%N}}" 1 1
    done
    unserve
    stop "$floor"
    if [ -n "$streams" ]; then
        row post "POST /v1/stream/NAME, 64 connections : durable floor" /s "$(median stream64)" "$(median floor64)" ">=0.4 (0.7)"
        row post "the same alone, p50 : one sync" us "$(median stream1_us)" "$(median sync_us)" "<=2.2"
    else
        row post "POST /threads, 64 connections : durable floor" /s "$(median thread64)" "$(median floor64)" ">=0.4 (0.7)"
        row post "the same alone, p50 : one sync" us "$(median thread1_us)" "$(median sync_us)" "<=2.2"
    fi
    [ -z "$streams" ] || row post "POST /threads, 64 connections : durable floor" /s "$(median thread64)" "$(median floor64)" -
    row post "POST /runs (a whole echo run each), 64 : durable floor" /s "$(median run64)" "$(median floor64)" -
    row post "POST /runs alone, p50 : one sync" us "$(median run1_us)" "$(median sync_us)" -
    row post "the floor alone, p50 : one sync" us "$(median floor1_us)" "$(median sync_us)" -
}

# ---- create: against Restate ------------------------------------------------------------------------------------------

restate='' restate_app='' ingress=''
restate_start() {
    local dir=$root/build/bench-peers/restate admin app node
    ingress=$(free_port) admin=$(free_port) app=$(free_port) node=$(free_port)
    mkdir -p "$dir"
    cp bench/peers/restate/* "$dir/"
    [ -x "$dir/node_modules/.bin/restate-server" ] || (cd "$dir" && npm ci --no-audit --no-fund --loglevel=error >&2) || return 1
    (cd "$dir" && exec node app.mjs "$app") >>"$work/restate-app.log" 2>&1 &
    restate_app=$!
    started+=("$restate_app")
    local binary
    binary=$(ls "$dir"/node_modules/@restatedev/restate-server-*/bin/restate-server 2>/dev/null | head -n 1)
    mkdir -p "$work/restate"
    DO_NOT_TRACK=1 RESTATE_DISABLE_TELEMETRY=true RESTATE_BASE_DIR=$work/restate RESTATE_BIND_ADDRESS=127.0.0.1:$node \
        RESTATE_ADVERTISED_ADDRESS=http://127.0.0.1:$node RESTATE_INGRESS__BIND_ADDRESS=127.0.0.1:$ingress \
        RESTATE_ADMIN__BIND_ADDRESS=127.0.0.1:$admin RESTATE_LOG_FILTER=warn "$binary" >"$work/restate.log" 2>&1 &
    restate=$!
    started+=("$restate")
    wait_port "$app" 20
    wait_port "$admin" 40
    wait_port "$ingress" 40
    port=$admin request POST /deployments "{\"uri\":\"http://127.0.0.1:$app\"}" >/dev/null
    local tries=60
    until [ "$(port=$ingress request POST /echo/run '{"n":1}')" = 200 ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        sleep 0.25
    done
}
restate_stop() { stop "$restate"; stop "$restate_app"; }

restate_posts() { # name path key dup
    local line
    line=$(tool http --port "$ingress" --header 'Content-Type: application/json' --header "idempotency-key: $3" --dup "$4" --path "$2" \
        --body '{"n":%D}' --conns 16 --secs 2 --warm 0.7 --pids "$restate $restate_app")
    say "    $line"
    keep "$1" "$(value rate "$line")"
}

create_scene() {
    local id name path line dup
    command -v npm >/dev/null || { say "  no npm: Restate cannot be installed"; return; }
    if ! restate_start; then say "  Restate does not start; left out"; tail -n 5 "$work"/restate*.log >&2 || true; return; fi
    for _ in $(seq "$repeats"); do
        restate_posts restate_send /echo/run/send 'a%S-%N' 1
        sleep 2 # what was only taken in is done now
        restate_posts restate_call /echo/run 'b%S-%N' 1
        restate_posts restate_repeat /echo/run 'c%S-%D' 1000
    done
    restate_stop
    serve
    id=$(echo_agent)
    for _ in $(seq "$repeats"); do
        for name in create:/v1/api/runs:1 wait:/v1/api/runs/wait:1 repeat:/v1/api/runs:1000; do
            IFS=: read -r name path dup <<<"$name"
            line=$(tool http --port "$port" "${json[@]}" --header "X-Idempotency-Key: $name%S-%D" --dup "$dup" --path "$path" \
                --body "{\"agent_id\":\"$id\",\"input\":{\"n\":%D}}" --conns 16 --secs 2 --pids "$server")
            say "    $line"
            keep "$name" "$(value rate "$line")"
        done
    done
    unserve
    row create "create with a key, 16 connections : Restate send" /s "$(median create)" "$(median restate_send)" ">=10"
    row create "create with a key and wait for the end : Restate call" /s "$(median wait)" "$(median restate_call)" ">=10"
    row create "repeats, 1,000 of each key : Restate call" /s "$(median repeat)" "$(median restate_repeat)" ">=4"
}

# ---- wait: a whole run behind one request -----------------------------------------------------------------------------

wait_scene() {
    local id
    serve
    id=$(echo_agent)
    for _ in $(seq "$repeats"); do
        keep sync_us "$(value p50 "$(tool sync "$work" 1 300 1)")"
        posts wait1_us /v1/api/runs/wait "{\"agent_id\":\"$id\",\"input\":{\"n\":%N}}" 1 1.5
        posts wait64 /v1/api/runs/wait "{\"agent_id\":\"$id\",\"input\":{\"n\":%N}}" 64 2
    done
    unserve
    row wait "echo through POST /runs/wait, alone, p50 : one sync" us "$(median wait1_us)" "$(median sync_us)" -
    row wait "the same, 64 connections, runs/s" /s "$(median wait64)" - -
}

# ---- fanout: one run, many followers ----------------------------------------------------------------------------------

nchan_follow() { # prefix conns option...
    local prefix=$1 conns=$2 line
    shift 2
    line=$(tool follow --port "$nchan_port" --path /sub/c%d --pub-path /pub/c%d --conns "$conns" --pids "$nchan_worker" "$@")
    say "    nchan $line"
    keep "$prefix" "$(value rate "$line")"
    keep "${prefix}_us" "$(value us_per "$line")"
}
stream_follow() { # prefix conns option...
    local prefix=$1 conns=$2 line
    shift 2
    line=$(tool follow --port "$port" "${auth[@]}" --pub-header 'Authorization: Bearer dev' --path '/v1/stream/c%d?offset=now&live=sse' \
        --pub-path /v1/stream/c%d --conns "$conns" --pids "$server" "$@")
    say "    stream $line"
    keep "$prefix" "$(value rate "$line")"
    keep "${prefix}_us" "$(value us_per "$line")"
}
# A run that emits for a while, every MS; it is cancelled behind the measurement.
run_follow() { # prefix conns ms
    local line id
    id=$(emit_agent)
    start_runs "$id" "{\"count\":100000,\"ms\":$3}" 1
    line=$(tool follow --port "$port" "${auth[@]}" --paths "$work/paths" --watch --conns "$2" --secs 1.5 --settle 0.5 --pids "$server")
    request POST "$(sed 's|/events/stream.*|/cancel|' "$work/paths")" >/dev/null
    say "    run $line"
    keep "$1" "$(value rate "$line")"
    keep "${1}_us" "$(value us_per "$line")"
    keep "${1}_per" "$(value per_read "$line")"
}

idle_memory() { # prefix port pids path
    keep "$1" "$(value kb_per "$(tool follow --port "$2" "${auth[@]}" --path "$4" --conns 10000 --idle --settle 0.5 --pids "$3")")"
}

fanout_scene() {
    local n streams='' ms
    for _ in $(seq "$repeats"); do
        nchan_start
        idle_memory nchan_kb "$nchan_port" "$nchan_worker" /sub/c0
        for n in 100 1000 10000; do nchan_follow "nchan$n" "$n" --window 2 --secs 1.2; done
        nchan_follow nchan_backlog 1000 --window 64 --inflight 32 --secs 1.2
        nchan_follow nchan_many 10000 --channels 1000 --window 64 --inflight 32 --secs 1.2
        nchan_stop

        serve
        if has_streams; then streams=yes; fi
        start_runs "$(emit_agent)" '{"count":100000,"ms":60000}' 1
        idle_memory run_kb "$port" "$server" "$(cat "$work/paths")"
        if [ -n "$streams" ]; then
            tool http --port "$port" "${auth[@]}" --header 'Content-Type: application/json' --method PUT --path /v1/stream/c%N --conns 16 --count 1000 >/dev/null
            for n in 100 1000 10000; do stream_follow "stream$n" "$n" --window 2 --secs 1.2; done
            stream_follow stream_backlog 1000 --window 64 --inflight 32 --secs 1.2
            stream_follow stream_many 10000 --channels 1000 --window 64 --inflight 32 --secs 1.2
        fi
        for n in 100:1 1000:12 10000:120; do ms=${n#*:} n=${n%:*}; run_follow "run$n" "$n" "$ms"; done
        run_follow run_backlog 1000 1
        many_runs
        unserve
    done
    if [ -n "$streams" ]; then
        row fanout "stream, 100 followers, deliveries/s : nchan" /s "$(median stream100)" "$(median nchan100)" -
        row fanout "stream, 1,000 followers, deliveries/s : nchan" /s "$(median stream1000)" "$(median nchan1000)" ">=1.2"
        row fanout "stream, 10,000 followers, deliveries/s : nchan" /s "$(median stream10000)" "$(median nchan10000)" ">=1.7"
        row fanout "stream, CPU per delivery, 1,000 : nchan" us "$(median stream1000_us)" "$(median nchan1000_us)" "<=0.8"
        row fanout "stream, CPU per delivery, 10,000 : nchan" us "$(median stream10000_us)" "$(median nchan10000_us)" "<=0.6"
        row fanout "stream, backlog of 64, deliveries/s : nchan" /s "$(median stream_backlog)" "$(median nchan_backlog)" ">=5"
        row fanout "1,000 streams x 10 followers, deliveries/s : nchan" /s "$(median stream_many)" "$(median nchan_many)" ">=1.4"
    fi
    # More than 1.1 events per read: they were not delivered one by one, and the figure flatters.
    row fanout "run, 1,000 followers, paced, $(human "$(median run1000_per)") per read, CPU per delivery : nchan" us "$(median run1000_us)" "$(median nchan1000_us)" "<=0.8"
    row fanout "run, 10,000 followers, paced, $(human "$(median run10000_per)") per read, CPU per delivery : nchan" us "$(median run10000_us)" "$(median nchan10000_us)" "<=0.6"
    row fanout "run, 1,000 followers, too fast for them, deliveries/s : nchan" /s "$(median run_backlog)" "$(median nchan_backlog)" ">=5"
    row fanout "1,000 runs x 10 followers, 10 events/s each, deliveries/s : nchan" /s "$(median run_many)" "$(median nchan_many)" ">=1.4"
    row fanout "user memory per idle follower, KB : nchan" KB "$(median run_kb)" "$(median nchan_kb)" "<=0.05 (0.025)"
}

many_runs() {
    local line
    start_runs "$(emit_agent)" '{"count":100000,"ms":100}' 1000
    line=$(tool follow --port "$port" "${auth[@]}" --paths "$work/paths" --watch --conns 10000 --secs 1.5 --settle 0.5 --pids "$server")
    say "    runs $line"
    keep run_many "$(value rate "$line")"
}

# ---- latency: publish to receive --------------------------------------------------------------------------------------

latency_scene() {
    local line
    serve
    if ! has_streams; then
        say "  this program has no durable streams, and a run cannot be published into from outside: left out"
        unserve
        return
    fi
    request PUT /v1/stream/c0 >/dev/null
    for _ in $(seq "$repeats"); do
        keep sync_us "$(value p50 "$(tool sync "$work" 1 300 1)")"
        line=$(tool follow --port "$port" "${auth[@]}" --pub-header 'Authorization: Bearer dev' --path '/v1/stream/c0?offset=now&live=sse' \
            --pub-path /v1/stream/c0 --conns 1 --rate 200 --secs 2 --pids "$server")
        say "    $line"
        keep receive_us "$(value p50 "$line")"
    done
    unserve
    row latency "publish to receive, durable, idle, p50 : one sync" us "$(median receive_us)" "$(median sync_us)" "<=4"
}

# ---- tokens: many runs that stream ------------------------------------------------------------------------------------

tokens_scene() {
    local id line text
    text=$(printf 'tok %.0s' $(seq 700))
    for _ in $(seq "$repeats"); do
        serve
        id=$(agent tokens "{\"node\":\"n\",\"capability_ref\":\"model.chat\",\"capability_version\":\"1\",\"execution_binding\":\"model\",
            \"config\":{\"provider\":\"scripted\",\"model\":\"m\",\"prompt\":\"go\",\"script\":{\"text\":\"$text\",\"interval_ms\":20}},\"next\":null}")
        start_runs "$id" '{}' 2000
        line=$(tool follow --port "$port" "${auth[@]}" --paths "$work/paths" --watch --interval 20 --conns 2000 --secs 4 --settle 3 --pids "$server")
        say "    $line"
        keep tokens "$(value rate "$line")"
        keep cores "$(value server_cpu "$line")"
        keep stamp_ms "$(calc "$(value p50 "$line") / 1000")"
        keep late_ms "$(calc "$(value late_p50 "$line") / 1000")"
        unserve
    done
    row tokens "2,000 runs x 50 tokens/s, a follower each: tokens/s" /s "$(median tokens)" - ">=98000"
    row tokens "the server's CPU, cores" "" "$(median cores)" - "<=1"
    row tokens "recorded to received, p50 (0 to 1 ms too much)" ms "$(median stamp_ms)" - "<=3"
    row tokens "behind the schedule of the fastest, p50" ms "$(median late_ms)" - "<=3"
}

# ---- agents: whole agents with a provider of their own, over its real protocol -------------------------------------------

pss_kb() { awk '/^Pss:/ { print $2; exit }' "/proc/$1/smaps_rollup"; }

provider='' provider_port=''
# provider_start TOKENS INTERVAL_MS: a provider, and a file that configures it as `local` and, endless, as `other`.
provider_start() {
    provider_port=$(free_port)
    "$tools/bench-provider" "$provider_port" "$@" &
    provider=$!
    started+=("$provider")
    wait_port "$provider_port" 10
}
provider_config() { # port other-port
    printf '{"providers":{"local":{"kind":"openai-chat","base_url":"http://127.0.0.1:%s"},"other":{"kind":"openai-chat","base_url":"http://127.0.0.1:%s"}}}' \
        "$1" "$2" >"$work/config.json"
}
model_agent() { # name provider model -> its id
    printf '{"name":"%s","definition":{"format":1,"agent":{"system":"You help.","model":{"provider":"%s","model":"%s"}}}}' "$@" >"$work/agent.json"
    "$perdure" agents apply "$work/agent.json" --json | grep -oE '"agent_id": *"[^"]+' | sed 's/.*"//'
}

agents_scene() {
    local line id before count=500 tokens=200
    for _ in $(seq "$repeats"); do
        keep sync_us "$(value p50 "$(tool sync "$work" 1 300 1)")"

        say "  one agent, a token every 5 ms"
        provider_start 1000 5
        provider_config "$provider_port" "$provider_port"
        serve --config "$work/config.json"
        id=$(model_agent slow local m)
        start_runs "$id" '"go"' 1
        line=$(tool follow --port "$port" "${auth[@]}" --paths "$work/paths" --watch --marks --conns 1 --secs 3 --settle 0.5 --pids "$server")
        say "    $line"
        keep lone_p50 "$(value p50 "$line")"
        keep lone_p99 "$(value p99 "$line")"
        unserve
        stop "$provider"

        say "  $count agents at once, $tokens tokens each, a token every 20 ms, a follower each"
        provider_start "$tokens" 20
        provider_config "$provider_port" "$provider_port"
        serve --config "$work/config.json"
        id=$(model_agent many local m)
        start_runs "$id" '"warm"' 1
        sleep 0.5
        before=$(pss_kb "$server")
        start_runs "$id" '"go"' "$count"
        sleep 0.3
        keep run_kb "$(calc "($(pss_kb "$server") - $before) / $count")"
        line=$(tool follow --port "$port" "${auth[@]}" --paths "$work/paths" --watch --marks --conns "$count" --secs 2 --settle 0.3 --pids "$server")
        say "    $line"
        keep paced "$(value rate "$line")"
        keep paced_p50 "$(value p50 "$line")"
        keep paced_p99 "$(value p99 "$line")"
        keep paced_cpu "$(calc "$(value server_cpu "$line") / $(value rate "$line") * 1000 * 1000")"
        unserve
        stop "$provider"

        say "  the same as fast as it goes, nobody follows"
        provider_start "$tokens" 0
        provider_config "$provider_port" "$provider_port"
        serve --config "$work/config.json"
        id=$(model_agent fast local m)
        line=$(tool http --port "$port" "${json[@]}" --path /v1/api/runs/wait --body "{\"agent_id\":\"$id\",\"input\":\"go\"}" --conns "$count" \
            --count "$((count * 4))" --save "$work/answers" --pids "$server")
        say "    $line"
        # What each run has in its ledger, from its own answer.
        keep fast "$(calc "$(value rate "$line") * $(grep -oE '"latest_seq": *[0-9]+' "$work/answers" | grep -oE '[0-9]+$' | awk '{ sum += $1 } END { print sum / NR }')")"
        keep fast_cpu "$(calc "$(value server_cpu "$line") / $(value rate "$line") / $tokens * 1000 * 1000")"
        unserve
        stop "$provider"
    done
    row agents "from a provider's chunk to the follower, one agent, p50 : one sync" us "$(median lone_p50)" "$(median sync_us)" "<=5"
    row agents "the same, p99 : one sync" us "$(median lone_p99)" "$(median sync_us)" -
    row agents "$count agents with followers, tokens/s (25,000 are sent)" /s "$(median paced)" - ">=24000"
    row agents "from the chunk to the follower then, p50" us "$(median paced_p50)" - "<=10000"
    row agents "the same, p99" us "$(median paced_p99)" - "<=50000"
    row agents "memory per active run, nobody follows" KB "$(median run_kb)" - "<=64"
    row agents "CPU per 1,000 tokens, followed" ms "$(median paced_cpu)" - "<=40"
    row agents "as fast as it goes, events/s" /s "$(median fast)" - ">=50000"
    row agents "CPU per 1,000 tokens then, nobody follows" ms "$(median fast_cpu)" - "<=20"
}

# ---- cancel: from the request to the end of the provider's call ---------------------------------------------------------

cancel_scene() {
    local line id mine name
    mine=$(free_port)
    for _ in $(seq "$repeats"); do
        provider_start 1000000 20
        provider_config "$provider_port" "$mine"
        serve --config "$work/config.json"
        id=$(model_agent endless other endless)
        for name in alone beside; do
            if [ "$name" = beside ]; then
                start_runs "$(model_agent busy local m)" '"go"' 200
                sleep 0.5
            fi
            line=$(tool provider "$mine" 1 5 cancel "$port" "$id" 300)
            say "    $name $line"
            keep "${name}_p50" "$(value closed_p50 "$line")"
            keep "${name}_p99" "$(value closed_p99 "$line")"
            keep "${name}_answer" "$(value answered_p50 "$line")"
        done
        unserve
        stop "$provider"
    done
    row cancel "from cancelling to the provider's closed socket, p50" us "$(median alone_p50)" - -
    row cancel "the same, p99" us "$(median alone_p99)" - "<=100000"
    row cancel "until the answer, p50" us "$(median alone_answer)" - -
    row cancel "beside 200 agents with 50 tokens/s each: p50" us "$(median beside_p50)" - -
    row cancel "the same, p99" us "$(median beside_p99)" - "<=100000"
}

# ---- replay: what was missed ------------------------------------------------------------------------------------------

replay_scene() {
    local line events=4900 body keep_data=$work/replay
    body="{\"type\":\"ev\",\"d\":\"T0=1%N;$(printf 'x%.0s' $(seq 165))\"}"
    for _ in $(seq "$repeats"); do
        nchan_start
        tool http --port "$nchan_port" --header 'Content-Type: application/json' --path /pub/r --body "$body" --count $events >/dev/null
        line=$(tool follow --port "$nchan_port" --path /old/r --conns 100 --replay $events --secs 30 --pids "$nchan_worker")
        say "    nchan $line"
        keep nchan_replay "$(value rate "$line")"
        nchan_stop

        rm -rf "$keep_data"
        serve
        start_runs "$(emit_agent)" "{\"count\":$events,\"ms\":0}" 1
        sleep 1
        unserve
        serve # so that nothing is left in a ring
        line=$(tool follow --port "$port" "${auth[@]}" --paths "$work/paths" --watch --conns 100 --replay $events --secs 30 --pids "$server")
        say "    run $line"
        keep run_replay "$(value rate "$line")"
        unserve

        rm -rf "$keep_data"
        line=$(tool append "$keep_data" 1.5 300 16)
        line=$(tool read "$keep_data" 1.5 16)
        say "    $line"
        keep read "$(value rate "$line")"
        rm -rf "$keep_data"
        line=$(tool append "$keep_data" 1.5 60 16)
        line=$(tool read "$keep_data" 1.5 16)
        say "    60 bytes: $line"
        keep read60 "$(value rate "$line")"
        rm -rf "$keep_data"
    done
    row replay "100 followers from the store, events/s : nchan from memory" /s "$(median run_replay)" "$(median nchan_replay)" ">=2.5"
    row replay "one reader in process, 300-byte events/s" /s "$(median read)" - ">=2000000"
    row replay "one reader in process, 60-byte events/s" /s "$(median read60)" - -
}

# ---- teams: 1,000 broadcasts at once --------------------------------------------------------------------------------

# Eight agents, two rounds; each turn is said in five pieces, so many ms apart.
team_agent() { # ms
    local agents
    agents=$(for i in 1 2 3 4 5 6 7 8; do printf '{"id":"a%d","role":"member"},' $i; done)
    printf '{"name":"team-%d","definition":{"format":1,"team":{"intent":"Agree on one sentence.","protocol":"broadcast","agents":[%s],
        "model":{"provider":"scripted","script":{"text":"so says the whole team","interval_ms":%d}}}}}' "$1" "${agents%,}" "$1" >"$work/agent.json"
    "$perdure" agents apply "$work/agent.json" --json | grep -oE '"agent_id": *"[^"]+' | sed 's/.*"//'
}
all_completed() { # count: waits, prints when (ms)
    local tries=9000
    until [ "$(look "/v1/api/runs?limit=1&status=completed" | grep -oE '"total": *[0-9]+' | grep -oE '[0-9]+$')" -ge "$1" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || die "the teams do not end"
        sleep 0.01
    done
    date +%s%3N
}
durations() { for at in 0 100 200 300 400; do look "/v1/api/runs?limit=100&offset=$at&status=completed" | grep -oE '"duration_ms": *[0-9]+' | grep -oE '[0-9]+$'; done; }

teams_scene() {
    local id began ended before during curl_auth=(-H 'Authorization: Bearer dev')
    for _ in $(seq "$repeats"); do
        serve
        id=$(team_agent 0)
        start_runs "$id" '"go"' 20 # warm
        all_completed 20 >/dev/null
        began=$(date +%s%3N)
        start_runs "$id" '"go"' 1000
        ended=$(all_completed 1020)
        keep team_turns "$(calc "16000 * 1000 / ($ended - $began)")"
        unserve
        serve
        id=$(team_agent 500)
        start_runs "$id" '"go"' 1
        all_completed 1 >/dev/null
        keep team_lone_ms "$(calc "($(durations | head -n 1) - 2 * 4 * 500) / 2")"
        before=$(resident_mb "$server")
        start_runs "$id" '"go"' 1000
        sleep 1 # all of them are in their first round
        during=$(resident_mb "$server")
        all_completed 1001 >/dev/null
        keep team_kb "$(calc "($during - $before) * 1024 / 1000")"
        keep team_over_ms "$(calc "($(durations | sort -g | sed -n 250p) - 2 * 4 * 500) / 2")"
        unserve
    done
    row teams "1,000 broadcasts of 8 agents, a model that takes no time: turns/s" /s "$(median team_turns)" - -
    row teams "a round beyond the model's 2 s, one team alone" ms "$(median team_lone_ms)" - -
    row teams "a round beyond the model's 2 s, 1,000 teams at once, p50" ms "$(median team_over_ms)" - -
    row teams "memory per team in flight (8 calls)" KB "$(median team_kb)" - -
}

# ---- footprint: memory and start --------------------------------------------------------------------------------------

resident_mb() { awk '/^VmRSS/ { printf "%.1f", $2 / 1024 }' "/proc/$1/status"; }

# Milliseconds from exec to the line that says where it listens.
start_ms() {
    local begin end line
    begin=$EPOCHREALTIME
    exec 8< <(exec "$perdure" serve --dev --listen 127.0.0.1:0 --data "$1" --log-level warn 2>>"$work/server.log")
    local pid=$!
    read -r line <&8
    end=$EPOCHREALTIME
    kill "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
    exec 8<&-
    [[ $line = listening* ]] || die "the server said: $line"
    calc "($end - $begin) * 1000"
}

footprint_scene() {
    local id
    for _ in $(seq "$repeats"); do
        rm -rf "$work/start"
        keep first_ms "$(start_ms "$work/start")"
        keep start_ms "$(start_ms "$work/start")"
        serve
        sleep 0.5
        keep idle_mb "$(resident_mb "$server")"
        unserve
    done
    serve
    id=$(echo_agent)
    say "    $(tool http --port "$port" "${json[@]}" --path /v1/api/runs --body "{\"agent_id\":\"$id\",\"input\":{\"n\":%N}}" --conns 64 --count 100000 --pids "$server")"
    sleep 2
    keep runs_mb "$(resident_mb "$server")"
    unserve
    row footprint "memory after the start, MB" MB "$(median idle_mb)" - "<=16"
    row footprint "start over a folder that is there, ms" ms "$(median start_ms)" - "<=50"
    row footprint "first start: makes folder, database, token" ms "$(median first_ms)" - -
    row footprint "memory after 100,000 echo runs, MB" MB "$(median runs_mb)" - "<=100"
}

# ---- streams: against the reference server of the protocol, with its file store ----------------------------------------

reference='' reference_port=''
reference_start() {
    local dir=$root/build/bench-peers/durable-streams
    mkdir -p "$dir" "$work/reference"
    cp bench/peers/durable-streams/* bench/peers/durable-streams/.npmrc "$dir/"
    [ -d "$dir/node_modules" ] || (cd "$dir" && npm install --no-audit --no-fund --loglevel=error >&2) || return 1
    reference_port=$(free_port)
    (cd "$dir" && exec node app.mjs "$reference_port" "$work/reference") >>"$work/reference.log" 2>&1 &
    reference=$!
    started+=("$reference")
    wait_port "$reference_port" 30
}

appends() { # name port pids conns header...
    local name=$1 at=$2 pids=$3 conns=$4 line
    shift 4
    line=$(tool http --port "$at" "$@" --header 'Content-Type: text/plain' --path /v1/stream/posts --body "$body300" --conns "$conns" --secs 1.5 \
        --pids "$pids")
    say "    $name $line"
    keep "$name" "$(value rate "$line")"
}
tail_of() { # name port pids header...
    local name=$1 at=$2 pids=$3 line
    shift 3
    line=$(tool follow --port "$at" "$@" --path '/v1/stream/tail?offset=now&live=sse' --pub-path /v1/stream/tail --pub-type text/plain \
        --conns 1000 --rate 10 --secs 3 --pids "$pids")
    say "    $name $line"
    keep "${name}_p50" "$(value p50 "$line")"
    keep "${name}_p99" "$(value p99 "$line")"
}

streams_scene() {
    local load=$root/build/bench-peers/durable-streams/load.mjs messages=1000000 name
    command -v npm >/dev/null || { say "  no npm: the reference server cannot be installed"; return; }
    reference_start || { say "  the reference server does not start"; return; }
    serve
    local mine=("${auth[@]}") mine_pub=("${auth[@]}" --pub-header 'Authorization: Bearer dev')
    for name in posts tail; do
        curl -sf -X PUT -H 'Authorization: Bearer dev' -H 'Content-Type: text/plain' "http://127.0.0.1:$port/v1/stream/$name"
        curl -sf -X PUT -H 'Content-Type: text/plain' "http://127.0.0.1:$reference_port/v1/stream/$name"
    done
    say "  $messages messages into both"
    BENCH_TOKEN=dev node "$load" fill "http://127.0.0.1:$port/v1/stream/many" "$messages" >&2
    timeout 80 node "$load" fill "http://127.0.0.1:$reference_port/v1/stream/many" "$messages" >&2 || messages=0
    for _ in $(seq "$repeats"); do
        for conns in 1 64; do
            appends "ours$conns" "$port" "$server" "$conns" "${mine[@]}"
            appends "theirs$conns" "$reference_port" "$reference" "$conns"
        done
        [ "$messages" = 0 ] || {
            keep ours_read "$(value seconds "$(BENCH_TOKEN=dev node "$load" read "http://127.0.0.1:$port/v1/stream/many")")"
            keep theirs_read "$(value seconds "$(timeout 60 node "$load" read "http://127.0.0.1:$reference_port/v1/stream/many")")"
        }
        tail_of ours_tail "$port" "$server" "${mine_pub[@]}"
        tail_of theirs_tail "$reference_port" "$reference"
    done
    unserve
    stop "$reference"
    row streams "appends, 1 producer : reference" /s "$(median ours1)" "$(median theirs1)" ">=20"
    row streams "appends, 64 producers : reference" /s "$(median ours64)" "$(median theirs64)" ">=20"
    [ "$messages" = 0 ] || row streams "1,000,000 messages read (reference : ours)" s "$(median theirs_read)" "$(median ours_read)" ">=10"
    row streams "SSE tail, 1,000 readers, p50 (reference : ours)" us "$(median theirs_tail_p50)" "$(median ours_tail_p50)" ">=10"
    row streams "SSE tail, 1,000 readers, p99 (reference : ours)" us "$(median theirs_tail_p99)" "$(median ours_tail_p99)" -
}

# ---- workflow: steps, against Restate and DBOS ---------------------------------------------------------------------------

dbos='' dbos_port='' dbos_pg=''
dbos_start() {
    local dir=$root/build/bench-peers/dbos tries=60
    mkdir -p "$dir"
    cp bench/peers/dbos/* bench/peers/dbos/.npmrc "$dir/"
    [ -d "$dir/node_modules" ] || (cd "$dir" && npm ci --no-audit --no-fund --loglevel=error >&2) || return 1
    dbos_pg=$(mktemp -d "${TMPDIR:-/tmp}/perdure-bench-pg.XXXXXX") # PostgreSQL runs as another user when we are root
    tests/support/postgres.sh start "$dbos_pg" >/dev/null || return 1
    dbos_port=$(free_port)
    (cd "$dir" && exec node app.mjs "$dbos_port" "postgres://perdure@localhost/dbos?host=$dbos_pg/run") >>"$work/dbos.log" 2>&1 &
    dbos=$!
    started+=("$dbos")
    until [ "$(port=$dbos_port request POST /chain '{"n":3}' 2>/dev/null)" = 200 ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        sleep 0.5
    done 2>/dev/null
}
dbos_stop() {
    [ -z "$dbos" ] || stop "$dbos"
    [ -z "$dbos_pg" ] || tests/support/postgres.sh remove "$dbos_pg" >/dev/null || true
}

# A workflow as an agent, so that one request starts it and waits for its end.
flow_agent() { # name plan-without-kind
    printf '{"name":"%s","definition":{"format":1,"workflow":{"kind":"workflow",%s}}}' "$1" "$2" >"$work/agent.json"
    "$perdure" agents apply "$work/agent.json" --json | grep -oE '"agent_id": *"[^"]+' | sed 's/.*"//'
}
# So many nodes one behind the other: a join that begins, then transforms, or calls of a model in another process.
chain_plan() { # nodes kind
    local i nodes='{"id":"n0","type":"join.all"}'
    [ "$2" = builtin ] || nodes='{"id":"n0","type":"llm","user":"0"}'
    for ((i = 1; i < $1; i++)); do
        if [ "$2" = builtin ]; then nodes+=",{\"id\":\"n$i\",\"type\":\"transform.json\",\"merge\":[{\"from\":\"n$((i - 1))\"}]}"
        else nodes+=",{\"id\":\"n$i\",\"type\":\"llm\",\"user\":\"$i\",\"depends_on\":[\"n$((i - 1))\"]}"; fi
    done
    echo "\"model\":\"worker/worker\",\"nodes\":[$nodes],\"outputs\":[{\"name\":\"o\",\"from\":\"n$(($1 - 1))\"}]"
}
wide_plan() { # builtin or worker
    local sub='{"id":"sub","type":"transform.json","object":{"value":{"from":"item"}}}'
    [ "$1" = builtin ] || sub='{"id":"sub","type":"llm","user":"{{item}}"}'
    echo "\"model\":\"worker/worker\",\"nodes\":[{\"id\":\"fan\",\"type\":\"map.fanout\",\"items_from_input\":\"list\",\"max_parallelism\":64,\"subnode\":$sub}],
        \"outputs\":[{\"name\":\"o\",\"from\":\"fan\",\"pointer\":\"/results\"}]"
}

flows() { # name port path body conns header...: keeps NAME (runs/s, or p50 in ms with one connection)
    local name=$1 at=$2 path=$3 body=$4 conns=$5 line
    shift 5
    line=$(tool http --port "$at" "$@" --path "$path" --body "$body" --conns "$conns" --secs 2)
    say "    $name $line"
    if [ "$conns" = 1 ]; then keep "$name" "$(calc "$(value p50 "$line") / 1000")"; else keep "$name" "$(value rate "$line")"; fi
}
# Runs that may take long, one after the other behind one that warms up: the median of their milliseconds.
flow_ms() { # name port path body-file count header...
    local name=$1 at=$2 path=$3 body=$4 count=$5 i took all=()
    shift 5
    for ((i = 0; i <= count; i++)); do
        took=$(curl -sf --max-time 100 -o "$work/answer" -w '%{time_total}' "$@" -d "@$body" "http://127.0.0.1:$at$path") || die "POST $path failed"
        if grep -qE '"status": *"failed"' "$work/answer"; then die "the run failed: $(head -c 300 "$work/answer")"; fi
        [ "$i" = 0 ] || all+=("$(calc "$took * 1000")")
    done
    keep "$name" "$(printf '%s\n' "${all[@]}" | sort -g | sed -n "$(((count + 1) / 2))p")"
}

workflow_scene() {
    local kind key name worker worker_port best peers=()
    local -A ids=()
    local curl_json=(-H 'Content-Type: application/json')
    worker_port=$(free_port)
    node bench/peers/worker.mjs "$worker_port" >>"$work/worker.log" 2>&1 &
    worker=$!
    started+=("$worker")
    wait_port "$worker_port" 20
    printf '{"providers":{"worker":{"kind":"openai-chat","base_url":"http://127.0.0.1:%d/v1","stream":false}}}' "$worker_port" >"$work/worker.json"
    if command -v npm >/dev/null && restate_start; then peers+=(restate); else say "  Restate is left out"; fi
    if command -v npm >/dev/null && dbos_start; then peers+=(dbos); else say "  DBOS is left out"; tail -n 5 "$work/dbos.log" >&2 || true; fi
    trap 'dbos_stop; end_started' EXIT
    serve --config "$work/worker.json"
    for kind in builtin worker; do
        ids[$kind.3]=$(flow_agent "$kind-3" "$(chain_plan 3 $kind)")
        ids[$kind.100]=$(flow_agent "$kind-100" "$(chain_plan 100 $kind)")
        ids[$kind.wide]=$(flow_agent "$kind-wide" "$(wide_plan $kind)")
        printf '{"agent_id":"%s","input":{}}' "${ids[$kind.100]}" >"$work/$kind.100.json"
        printf '{"agent_id":"%s","input":{"list":[%s]}}' "${ids[$kind.wide]}" "$(seq -s, 1000)" >"$work/$kind.wide.json"
    done
    echo '{"n":100}' >"$work/n100.json"
    echo '{"n":1000}' >"$work/n1000.json"
    for _ in $(seq "$repeats"); do
        for kind in builtin worker; do
            flows "$kind.lone" "$port" /v1/api/runs/wait "{\"agent_id\":\"${ids[$kind.3]}\",\"input\":{}}" 1 "${json[@]}"
            flows "$kind.rate" "$port" /v1/api/runs/wait "{\"agent_id\":\"${ids[$kind.3]}\",\"input\":{}}" 16 "${json[@]}"
            flow_ms "$kind.chain" "$port" /v1/api/runs/wait "$work/$kind.100.json" 5 "${curl_json[@]}" -H 'Authorization: Bearer dev'
            flow_ms "$kind.wide" "$port" /v1/api/runs/wait "$work/$kind.wide.json" 1 "${curl_json[@]}" -H 'Authorization: Bearer dev'
        done
        for name in "${peers[@]}"; do
            local at=$dbos_port path=''
            if [ "$name" = restate ]; then at=$ingress path=/flow; fi
            flows "$name.lone" "$at" "$path/chain" '{"n":3}' 1 --header 'Content-Type: application/json'
            flows "$name.rate" "$at" "$path/chain" '{"n":3}' 16 --header 'Content-Type: application/json'
            flow_ms "$name.chain" "$at" "$path/chain" "$work/n100.json" 5 "${curl_json[@]}"
            flow_ms "$name.wide" "$at" "$path/wide" "$work/n1000.json" 1 "${curl_json[@]}"
        done
    done
    unserve
    [[ " ${peers[*]} " != *" restate "* ]] || restate_stop
    dbos_stop
    stop "$worker"
    dbos='' dbos_pg=''
    [ ${#peers[@]} -gt 0 ] || return 0
    for kind in builtin worker; do
        local aim=">=8" word="built-in steps"
        [ $kind = builtin ] || aim=">=4" word="a worker over HTTP"
        best=$(for name in "${peers[@]}"; do echo "$(calc "$(median "$name.rate") * 3")"; done | sort -g | tail -n 1)
        row workflow "3 nodes, 16 at a time, $word, steps/s" /s "$(calc "$(median $kind.rate) * 3")" "$best" "$aim"
        for key in chain wide; do
            local steps=100
            [ $key = chain ] || steps=1000
            best=$(for name in "${peers[@]}"; do echo "$(calc "$steps * 1000 / $(median "$name.$key")")"; done | sort -g | tail -n 1)
            row workflow "$key of $steps alone, $word, steps/s" /s "$(calc "$steps * 1000 / $(median $kind.$key)")" "$best" "$aim"
        done
        best=$(for name in "${peers[@]}"; do echo "$(median "$name.lone")"; done | sort -g | head -n 1)
        row workflow "3 nodes alone, $word, ms (ours as ratio)" ms "$(median $kind.lone)" "$best" "<=$([ $kind = builtin ] && echo 0.125 || echo 0.25)"
    done
    row workflow "3 nodes alone, built-in steps, ms" ms "$(median builtin.lone)" - "<=1"
    for name in "${peers[@]}"; do
        row workflow "$name: 3 steps, 16 at a time, steps/s" /s "$(calc "$(median "$name.rate") * 3")" - -
        row workflow "$name: chain of 100, us per step" us "$(calc "$(median "$name.chain") * 10")" - -
        row workflow "$name: 1,000 side by side, us per step" us "$(median "$name.wide")" - -
    done
}

# ---- scale: a million finished runs --------------------------------------------------------------------------------------

scale_runs=${BENCH_SCALE_RUNS:-1000000}

# Milliseconds until the answer is here, the median of five; the first one of each kind pays for what is not cached yet.
get_ms() { # name path
    local took all=()
    for _ in 1 2 3 4 5; do
        took=$(curl -sf -o "$work/answer" -w '%{time_total}' "${curl_auth[@]}" "http://127.0.0.1:$port$2") || die "GET $2 failed"
        all+=("$(calc "$took * 1000")")
    done
    keep "$1" "$(printf '%s\n' "${all[@]}" | sort -g | sed -n 3p)"
    say "        first ${all[0]}"
}
post() { # path body: prints the answer
    curl -sf --max-time 120 "${curl_auth[@]}" -H 'Content-Type: application/json' -d "$2" "http://127.0.0.1:$port$1" || die "POST $1 failed"
}
look() { curl -sf "${curl_auth[@]}" "http://127.0.0.1:$port$1" || die "GET $1 failed"; }
text_member() { grep -oE "\"$1\": *\"[^\"]*" | sed 's/.*"//'; } # name: its values in what is read
ms_of() { date -d "$1" +%s%3N; }

# Waits for the end of a run; then its answer is in $work/run.
await() { # run-id
    local tries=6000
    until look "/v1/api/runs/$1" >"$work/run" && grep -qE '"status": *"(completed|failed|cancelled)"' "$work/run"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || die "run $1 does not end"
        sleep 0.01
    done
    grep -qE '"status": *"completed"' "$work/run" || die "run $1 did not complete"
}

# From the cancelling of the run that holds the thread to the end of the last of the 64 behind it, for each: by their rows, whose times
# are in milliseconds, and by our clock, which counts the two requests in.
promote() { # echo-agent emit-agent
    local first last thread began
    post /v1/api/runs "{\"agent_id\":\"$2\",\"input\":{\"count\":1000,\"ms\":1000}}" >"$work/first"
    first=$(text_member run_id <"$work/first")
    thread=$(text_member thread_id <"$work/first")
    for _ in $(seq 64); do
        last=$(post /v1/api/runs "{\"agent_id\":\"$1\",\"input\":{},\"thread\":{\"thread_id\":\"$thread\"}}" | text_member run_id)
    done
    [ "$(look "/v1/api/runs?status=pending&thread_id=$thread&limit=500" | text_member status | grep -c pending)" = 64 ] || die "not all of them wait"
    get_ms waiting_ms "/v1/api/runs?status=pending&thread_id=$thread&limit=500"
    began=$EPOCHREALTIME
    post "/v1/api/runs/$first/cancel" '{}' >/dev/null
    await "$last"
    keep promote_seen_ms "$(calc "($EPOCHREALTIME - $began) * 1000 / 64")"
    began=$(look "/v1/api/runs/$first" | text_member completed_at)
    keep promote_ms "$(calc "($(ms_of "$(text_member completed_at <"$work/run")") - $(ms_of "$began")) / 64")"
}

# By our clock, from the request to the first look that shows the end.
replay_strictly() { # agent
    local run checkpoint began
    run=$(post /v1/api/runs/wait "{\"agent_id\":\"$1\",\"input\":{\"count\":10000}}" | text_member run_id | head -n 1)
    checkpoint=$(look "/v1/api/runs/$run/checkpoints/index" | text_member checkpoint_id | head -n 1)
    began=$EPOCHREALTIME
    await "$(post "/v1/api/runs/$run/checkpoints/$checkpoint/replay" '{"mode":"strict"}' | text_member run_id)"
    keep strict_s "$(calc "$EPOCHREALTIME - $began")"
    [ "$(grep -oE '"latest_seq": *[0-9]+' "$work/run" | grep -oE '[0-9]+$')" -gt 10000 ] || die "the replay has too few events"
}

scale_scene() {
    local keep_data=$work/scale line echo_id emit_id late_id thread_id agent_id name offset what
    local curl_auth=(-H 'Authorization: Bearer dev')
    local -A filters=([none]='' [status]='&status=completed')
    serve
    local echoes='{"node":"n","capability_ref":"core.echo","capability_version":"1","execution_binding":"builtin","config":{},"next":'
    for name in b c; do agent "$name" "${echoes}null}" >/dev/null; done
    # A checkpoint before the events, for the replay to begin at.
    late_id=$(agent late "$echoes\"e\"},{\"node\":\"e\",\"capability_ref\":\"core.emit\",\"capability_version\":\"1\",
        \"execution_binding\":\"builtin\",\"config\":{\"count\":{\"\$from\":\"/input/count\"},\"interval_ms\":0},\"next\":null}")
    echo_id=$(echo_agent)
    emit_id=$(emit_agent)
    unserve
    line=$(tool scale "$keep_data" fill "$scale_runs")
    say "    $line, $(du -sm "$keep_data" | cut -f 1) MB"
    thread_id=$(value thread "$line") agent_id=$(value agent "$line")
    filters[thread]="&thread_id=$thread_id" filters[agent]="&agent_id=$agent_id"
    tool scale "$keep_data" plans >&2
    keep open_ms "$(start_ms "$keep_data")"
    serve
    for _ in $(seq "$repeats"); do
        get_ms summary_ms /v1/api/runs/observability/summary
        get_ms summary_agent_ms "/v1/api/runs/observability/summary?agent_id=$agent_id"
        get_ms capabilities_ms /v1/api/runs/observability/capabilities
        get_ms bindings_ms /v1/api/runs/observability/bindings
        for name in none status thread agent; do
            for offset in 0 100000; do get_ms "list_${name}_$offset" "/v1/api/runs?limit=50&offset=$offset${filters[$name]}"; done
        done
        replay_strictly "$late_id"
        promote "$echo_id" "$emit_id"
    done
    keep scale_mb "$(resident_mb "$server")"
    unserve
    rm -rf "$keep_data"
    what="of $scale_runs runs"
    row scale "start over a folder $what" ms "$(median open_ms)" - -
    row scale "summary $what" ms "$(median summary_ms)" - "<=1000"
    row scale "summary of one agent in five" ms "$(median summary_agent_ms)" - "<=1000"
    row scale "capabilities $what" ms "$(median capabilities_ms)" - "<=1000"
    row scale "bindings $what" ms "$(median bindings_ms)" - "<=1000"
    for name in none status thread agent; do
        row scale "list, filter $name: the first 50" ms "$(median "list_${name}_0")" - "<=1000"
        row scale "list, filter $name: 50 behind 100,000" ms "$(median "list_${name}_100000")" - "<=1000"
    done
    row scale "list of 64 waiting runs of a thread" ms "$(median waiting_ms)" - -
    row scale "strict replay of a run with 10,000 events" s "$(median strict_s)" - -
    row scale "64 runs wait for a thread: each until the last has ended" ms "$(median promote_seen_ms)" - -
    row scale "the same by the times of the rows" ms "$(median promote_ms)" - -
    row scale "memory behind it" MB "$(median scale_mb)" - -
}

# ---- all of it --------------------------------------------------------------------------------------------------------

say "$(nproc) cores, $(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), Linux $(uname -r), load $(cut -d' ' -f1-3 /proc/loadavg)"
broken=0
for scene in "${scenes[@]}"; do
    began=$SECONDS
    say "== $scene (load $(cut -d' ' -f1 /proc/loadavg))"
    set +e
    (
        set -e
        trap end_started EXIT
        "${scene}_scene"
    )
    status=$?
    set -e
    [ $status -ne 130 ] || exit 130
    [ $status -eq 0 ] || { say "   $scene did not come to its end"; broken=1; }
    say "   $((SECONDS - began)) s"
done
{
    echo "scene|what|ours|reference|ratio|aim|"
    cat "$results"
} | column -t -s '|' -o ' | '
exit $broken
