#!/bin/sh
# System calls of c-examples/echo for one request (64 bytes and their echo), on each backend, by strace.
#
#   benches/calls.sh [requests]
#
# The difference of two runs, of a tenth of the requests and of all, so that starting, accepting and ending do not count. With
# 50 connections, as many requests as have come in are answered in one turn; the fewer the longer strace holds the server up.
set -eu
cd "$(dirname "$0")/.."
requests=${1:-10000}
command -v strace >/dev/null || { echo "benches/calls.sh: needs strace (apt-get install strace)" >&2; exit 1; }
make -s build/examples/echo
mkdir -p build/calls
${CC:-cc} -std=c11 -O2 -Wall -Wextra benches/echo_client.c -o build/echo_client
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true' EXIT

# count BACKEND CONNECTIONS REQUESTS: "name calls" of each system call, into build/calls/REQUESTS
count() {
  : >build/calls/server
  # By its own process number: a signal for strace would not end the server in good order.
  # shellcheck disable=SC2016
  strace -f -c -o build/calls/summary sh -c 'echo $$ >build/calls/pid; exec build/examples/echo --port 0 --backend "$0"' "$1" \
    >build/calls/server &
  strace=$!
  tries=0
  until grep -q listening build/calls/server; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { echo "benches/calls.sh: the server does not start" >&2; exit 1; }
    sleep 0.1
  done
  server=$(cat build/calls/pid)
  port=$(sed -n 's/.*127\.0\.0\.1:\([0-9]*\).*/\1/p' build/calls/server)
  build/echo_client "$port" "$2" "$3"
  kill "$server"
  wait "$strace"
  server=
  awk '$NF != "total" && $4 ~ /^[0-9]+$/ {print $NF, $4}' build/calls/summary >"build/calls/$3"
}

few=$((requests / 10))
for connections in 1 50; do
  for backend in select poll epoll uring; do
    count $backend $connections $few
    count $backend $connections "$requests"
    awk -v backend=$backend -v connections=$connections -v requests=$((requests - few)) '
      FNR == 1 { file++ }
      { calls[$1] += file == 1 ? -$2 : $2 }
      END {
        for (name in calls) {
          each = calls[name] / requests
          all += each
          if (each < 0.005) continue
          for (i = ++known; i > 1 && calls[names[i - 1]] < calls[name]; i--) names[i] = names[i - 1]
          names[i] = name
        }
        printf "%-7s %2d connections: %.2f calls a request:", backend, connections, all
        for (i = 1; i <= known; i++) printf "%s %.2f %s", (i > 1 ? "," : ""), calls[names[i]] / requests, names[i]
        print ""
      }' "build/calls/$few" "build/calls/$requests"
  done
done
