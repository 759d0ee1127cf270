#!/bin/sh
# System calls of c-examples/echo for one request (64 bytes and their echo), on each backend, by strace; and beside it those of
# loops by hand (benches/streams.c).
#
#   benches/calls.sh [requests]
#
# The difference of two runs, of a tenth of the requests and of all, so that starting, accepting and ending do not count. With
# 50 connections, as many requests as have come in are answered in one turn; the fewer the longer strace holds the server up.
# "x 16": each connection has so many in flight.
set -eu
cd "$(dirname "$0")/.."
requests=${1:-10000} # 8,000 at least, for 50 x 16 to be a tenth
command -v strace >/dev/null || { echo "benches/calls.sh: needs strace (apt-get install strace)" >&2; exit 1; }
make -s build/examples/echo
mkdir -p build/calls
${CC:-cc} -std=c11 -O2 -Wall -Wextra benches/echo_client.c -o build/echo_client
${CC:-cc} -std=c11 -O2 -Wall -Wextra -Iinclude benches/streams.c build/libbecket.a -o build/calls/streams
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true' EXIT

# count WAY CONNECTIONS IN_FLIGHT REQUESTS: "name calls" of each system call, into build/calls/REQUESTS
count() {
  case $1 in
    raw-*) command="build/calls/streams $1" ;;
    *) command="build/examples/echo --port 0 --backend $1" ;;
  esac
  : >build/calls/server
  # By its own process number: a signal for strace would not end the server in good order.
  # shellcheck disable=SC2016
  strace -f -c -o build/calls/summary sh -c 'echo $$ >build/calls/pid; exec $0' "$command" \
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
  build/echo_client "$port" "$2" "$4" "$3"
  case $1 in raw-*) ;; *) kill "$server" ;; esac # the loops by hand end by themselves
  wait "$strace"
  server=
  awk '$NF != "total" && $4 ~ /^[0-9]+$/ {print $NF, $4}' build/calls/summary >"build/calls/$4"
}

few=$((requests / 10))
for clients in '1 1' '50 1' '50 16'; do
  connections=${clients% *} in_flight=${clients#* }
  for way in select poll epoll uring raw-epoll raw-io_uring; do
    count $way "$connections" "$in_flight" $few
    count $way "$connections" "$in_flight" "$requests"
    awk -v way=$way -v connections="$connections" -v in_flight="$in_flight" -v requests=$((requests - few)) '
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
        printf "%-12s %2d connections x %-2d: %.2f calls a request:", way, connections, in_flight, all
        for (i = 1; i <= known; i++) printf "%s %.2f %s", (i > 1 ? "," : ""), calls[names[i]] / requests, names[i]
        print ""
      }' "build/calls/$few" "build/calls/$requests"
  done
done
