#!/bin/sh
# What a loop feels of a disk: 64 clients fetch 1 GiB of files that are in no cache, beside a 1 ms timer on the same loop and
# a client that says hello.
#
#   benches/files.sh [seconds]      ENGINES="uring aio aio-signal read"  BACKEND=epoll  FILES=64  MEGABYTES=16  ROUNDS=1
#
# For each engine: how late the timer was (of all periods half, 99 %, 99.9 %, and the worst), how long hello took, and how
# many megabytes a second arrived. First comes a server that nobody fetches files from. `read` is the one that reads in the
# handler. The server works all the time here: what else runs on its CPU shows as lateness, so leave it alone.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-10} port=${PORT:-18474} backend=${BACKEND:-epoll} engines=${ENGINES:-uring aio aio-signal read}
count=${FILES:-64} megabytes=${MEGABYTES:-16} rounds=${ROUNDS:-1}
command -v curl >/dev/null || { echo "benches/files.sh: needs curl (apt-get install curl)" >&2; exit 1; }
make -s build/examples/httpd
${CC:-cc} -std=c11 -O2 -Wall -Wextra benches/hello_client.c -o build/hello_client
folder=build/files
server_cpu='' client_cpu=''
if command -v taskset >/dev/null && [ "$(nproc)" -gt 1 ]; then
  server_cpu='taskset -c 0' client_cpu="taskset -c 1-$(($(nproc) - 1))"
fi
server= load=
trap '[ -z "$load" ] || kill "$load" 2>/dev/null || true; [ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

mkdir -p $folder
i=0
while [ $i -lt "$count" ]; do
  head -c "${megabytes}M" /dev/urandom >$folder/$i.bin
  i=$((i + 1))
done
sync

# Out of the page cache: these files alone, which needs no privilege (POSIX_FADV_DONTNEED).
forget() {
  for file in "$folder"/*.bin; do
    dd if="$file" iflag=nocache count=0 2>/dev/null
  done
}

# All files at once, again and again, each time from the disk.
fetch() {
  while :; do
    forget
    $client_cpu curl -s -Z --parallel-max 64 -o /dev/null "http://127.0.0.1:$port/[0-$((count - 1))].bin" 2>/dev/null || exit
  done
}

field() { # field NAME: of what /_status.json said
  sed "s/.*\"$1\":\([0-9]*\).*/\1/" build/files.status
}

# measure LABEL ENGINE
measure() {
  $server_cpu build/examples/httpd --root $folder --port "$port" --backend "$backend" --files "$2" --lateness-ms 1 \
    >build/files.out 2>&1 &
  server=$!
  curl -s --retry 20 --retry-connrefused --retry-delay 1 "http://127.0.0.1:$port/hello" >build/files.hello || true
  if ! kill -0 "$server" 2>/dev/null; then
    echo "$1: skipped: $(cat build/files.out)"
    server=
    return
  fi
  if [ "$1" != idle ]; then
    fetch &
    load=$!
  fi
  hello=$($client_cpu build/hello_client "$port" "$seconds")
  curl -s "http://127.0.0.1:$port/_status.json" >build/files.status
  if [ -n "$load" ]; then
    kill "$load"
    wait "$load" 2>/dev/null || true
    load=
  fi
  kill "$server" # one that is sending finishes first: its clients are gone
  wait "$server" 2>/dev/null || true
  server=
  echo "$1 $(field lateness_p50_ns) $(field lateness_p99_ns) $(field lateness_p999_ns) $(field lateness_max_ns) $hello" \
    "$(field bytes_out) $(field uptime_ns)" |
    awk '{printf "%-11s timer late by %6.0f %7.0f %7.0f %8.0f us; hello %5d %6d %7d us; %6.0f MB/s\n",
          $1, $2 / 1e3, $3 / 1e3, $4 / 1e3, $5 / 1e3, $6, $7, $8, $10 / 1e6 / ($11 / 1e9)}'
}

echo "            (half, 99 %, 99.9 %, worst)                 (half, 99 %, worst)"
round=0
while [ "$round" -lt "$rounds" ]; do
  round=$((round + 1))
  measure idle read
  for engine in $engines; do measure "$engine" "$engine"; done
done
