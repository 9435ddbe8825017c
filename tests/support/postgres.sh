#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# postgres.sh - a throw-away PostgreSQL for tests and measurements, in a folder of its own. It listens on a unix socket
# in that folder only, trusts whoever gets there, and syncs (fsync on), because what is tested is that nothing is lost.
#
#   postgres.sh start DIR        makes DIR and a database cluster in it when there is none, starts it, prints its url
#   postgres.sh stop DIR         an orderly stop
#   postgres.sh kill DIR         kill -9 of the server and all its processes
#   postgres.sh restart DIR      kill, then start
#   postgres.sh schema DIR NAME  makes a schema; with `&options=-csearch_path%3DNAME` behind the url a store lives in it
#   postgres.sh sql DIR TEXT     runs TEXT, prints bare values
#   postgres.sh remove DIR       stops it and removes DIR
#
# PostgreSQL does not run as root; then it runs as the user postgres. It is ended by its pid, which is in DIR/data.
set -euo pipefail

command=${1:-}
dir=${2:-}
[ -n "$dir" ] || { sed -n '3,15p' "$0" >&2; exit 2; }
case $dir in /*) ;; *) dir=$PWD/$dir ;; esac

bin=$(find /usr/lib/postgresql/*/bin -maxdepth 0 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] || { echo "postgres.sh: no PostgreSQL server here (Debian package postgresql-15)" >&2; exit 1; }

as_user=()
if [ "$(id -u)" -eq 0 ]; then as_user=(setpriv --reuid=postgres --regid=postgres --clear-groups env HOME="$dir"); fi

url() { echo "postgres://perdure@/postgres?host=$dir/run"; }

pid() { [ -f "$dir/data/postmaster.pid" ] && head -n 1 "$dir/data/postmaster.pid"; }

# Whether the server of this folder lives. A killed one leaves its file behind, and its number may be another process's.
alive() {
    local pid
    pid=$(pid) || return 1
    [ -d "/proc/$pid" ] && [ "$(tr '\0' '\n' <"/proc/$pid/cmdline" | tail -n +2 | grep -cxF -e "$dir/data")" -gt 0 ]
}

wait_until_gone() { # pid...
    local pid
    for pid in "$@"; do
        for _ in $(seq 1500); do
            # a zombie is gone: its memory is
            [ -d "/proc/$pid" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null || continue 2
            sleep 0.02
        done
        echo "postgres.sh: process $pid does not end" >&2
        exit 1
    done
}

create() {
    mkdir -p "$dir/run"
    [ ${#as_user[@]} -eq 0 ] || chown postgres:postgres "$dir" "$dir/run"
    "${as_user[@]}" "$bin/initdb" -D "$dir/data" -U perdure -A trust -E UTF8 --locale=C --no-sync >"$dir/initdb.log" 2>&1 ||
        { tail -n 5 "$dir/initdb.log" >&2; exit 1; }
    cat >>"$dir/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$dir/run'
fsync = on
full_page_writes = on
synchronous_commit = on
shared_buffers = 64MB
max_wal_size = 512MB
log_min_messages = fatal
CONF
}

start() {
    [ -f "$dir/data/PG_VERSION" ] || create
    if ! alive; then
        "${as_user[@]}" setsid "$bin/postgres" -D "$dir/data" </dev/null >>"$dir/run/log" 2>&1 &
        for _ in $(seq 500); do
            if ready || ! jobs -r | grep -q .; then break; fi
            sleep 0.02
        done
    fi
    ready || { tail -n 5 "$dir/run/log" >&2; exit 1; }
    url
}

stop() {
    alive || return 0
    local pid
    pid=$(pid)
    kill -INT "$pid" # ends connections, then writes all it has
    wait_until_gone "$pid"
}

# The children first get no chance to notice: the parent goes, then they do.
kill_all() {
    alive || return 0
    local pid children=() status
    pid=$(pid)
    for status in /proc/[0-9]*/stat; do
        if [ "$(sed 's/.*) //' "$status" 2>/dev/null | cut -d' ' -f2)" = "$pid" ]; then
            status=${status#/proc/}
            children+=("${status%/stat}")
        fi
    done
    kill -KILL "$pid" "${children[@]}" 2>/dev/null || true
    wait_until_gone "$pid" "${children[@]}"
    # Its process may stay a zombie for ever where nobody collects orphans, and would then be taken for alive.
    rm -f "$dir/data/postmaster.pid" "$dir"/run/.s.PGSQL.*
}

ready() { "$bin/pg_isready" -q -h "$dir/run" -U perdure -d postgres -t 5; }

sql() { "$bin/psql" -qAtX -v ON_ERROR_STOP=1 -h "$dir/run" -U perdure -d postgres -c "$1"; }

case $command in
    start) start ;;
    stop) stop ;;
    kill) kill_all ;;
    restart) kill_all; start ;;
    schema) sql "SET client_min_messages = error; CREATE SCHEMA IF NOT EXISTS \"$3\"" ;;
    sql) sql "$3" ;;
    remove) kill_all; rm -rf "$dir" ;;
    *) sed -n '3,15p' "$0" >&2; exit 2 ;;
esac
