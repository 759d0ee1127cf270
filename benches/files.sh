#!/bin/sh
# What a loop feels of a disk: 64 clients fetch 1 GiB of files that are in no cache, beside a 1 ms timer on the same loop and
# a client that says hello.
#
#   benches/files.sh [seconds [rounds]]      WAYS="epoll+uring ..."  FILES=64  MEGABYTES=16  PREFIX="chrt -f 2"
#
# For each way, a backend and an engine for files: how late the timer was (of all periods half, 99 %, 99.9 %, and the worst),
# how long hello took, how many megabytes a second arrived, and what processor time a gigabyte took. First comes a server
# that nobody fetches files from. `auto` reads at once what is in memory, and the rest by an engine; `read` is the one that reads
# in the handler. The ways take turns, and the table has the medians of all rounds; "x" is the ratio to the idle loop's. The
# server works all the time here: what else runs on its CPU shows as lateness, so leave the machine alone (or, as root, have the
# server go first: PREFIX; with a priority above 1, or the threads of POSIX AIO have the same).
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-10} rounds=${2:-3} port=${PORT:-18474} count=${FILES:-64} megabytes=${MEGABYTES:-16} prefix=${PREFIX:-}
ways=${WAYS:-epoll+auto epoll+uring uring+uring epoll+aio epoll+aio-signal epoll+read}
command -v curl >/dev/null || { echo "benches/files.sh: needs curl (apt-get install curl)" >&2; exit 1; }
make -s build/examples/httpd
make -s AIO=1 build/aio/examples/httpd || echo "without POSIX AIO" >&2
${CC:-cc} -std=c11 -O2 -Wall -Wextra benches/hello_client.c -o build/hello_client
folder=build/files results=build/files.results
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

# measure WAY BACKEND ENGINE
measure() {
  program=build/examples/httpd
  case $3 in aio*) [ ! -x build/aio/examples/httpd ] || program=build/aio/examples/httpd ;; esac
  $prefix $server_cpu $program --root $folder --port "$port" --backend "$2" --files "$3" --lateness-ms 1 \
    >build/files.out 2>&1 &
  server=$!
  curl -s --retry 20 --retry-connrefused --retry-delay 1 "http://127.0.0.1:$port/hello" >build/files.hello || true
  if ! kill -0 "$server" 2>/dev/null; then
    echo "$1: skipped: $(cat build/files.out)" >&2
    server=
    return
  fi
  if [ "$1" != idle ]; then
    fetch &
    load=$!
  fi
  hello=$($client_cpu build/hello_client "$port" "$seconds")
  curl -s "http://127.0.0.1:$port/_status.json" >build/files.status
  ticks=$(sed 's/.*) //' "/proc/$server/stat" 2>/dev/null | awk '{print $12 + $13}') || ticks=0
  if [ -n "$load" ]; then
    kill "$load"
    wait "$load" 2>/dev/null || true
    load=
  fi
  kill "$server" # one that is sending finishes first: its clients are gone
  wait "$server" 2>/dev/null || true
  server=
  echo "$1 $(field lateness_p50_ns) $(field lateness_p99_ns) $(field lateness_p999_ns) $(field lateness_max_ns) $hello" \
    "$(field bytes_out) $(field uptime_ns) ${ticks:-0} $(getconf CLK_TCK)" >>$results
}

: >$results
round=0
while [ "$round" -lt "$rounds" ]; do
  round=$((round + 1))
  measure idle epoll read
  for way in $ways; do measure "$way" "${way%%+*}" "${way#*+}"; done
done

echo "$count clients, $((count * megabytes)) MiB of files, ${seconds} s, medians of $rounds rounds; times in us"
echo "                 timer late by                                       hello took"
echo "                 half        99 %         99.9 %       worst        half        99 %            worst    MB/s  CPU s/GB"
awk '
  function median(way, column, at, to, sorted, n) {
    n = rounds[way]
    for (at = 1; at <= n; at++) sorted[at] = value[way, at, column]
    for (at = 2; at <= n; at++)
      for (to = at; to > 1 && sorted[to] < sorted[to - 1]; to--) { swap = sorted[to]; sorted[to] = sorted[to - 1]; sorted[to - 1] = swap }
    return sorted[int((n + 1) / 2)]
  }
  function beside(way, column, width,    own, idle) {
    own = median(way, column); idle = median("idle", column)
    return sprintf("%" width ".0f x%-4.1f", own, idle > 0 ? own / idle : 0)
  }
  {
    if (!($1 in rounds)) order[++ways] = $1
    at = ++rounds[$1]
    for (column = 2; column <= 5; column++) value[$1, at, column] = $column / 1e3
    for (column = 6; column <= 8; column++) value[$1, at, column] = $column
    value[$1, at, 9] = $10 / 1e6 / ($11 / 1e9)
    value[$1, at, 10] = $10 > 1e8 ? $12 / $13 / ($10 / 1e9) : 0
  }
  END {
    for (number = 1; number <= ways; number++) {
      way = order[number]
      printf "%-16s %s %s %s %s %s %s %8.0f %7.0f %9.2f\n", way, beside(way, 2, 5), beside(way, 3, 6), beside(way, 4, 6),
        beside(way, 5, 6), beside(way, 6, 5), beside(way, 7, 6), median(way, 8), median(way, 9), median(way, 10)
    }
  }' $results
