#!/bin/sh
# httpd on the poll backend against a raw poll(2) loop with the same answers, by turns, under wrk.
#
#   benches/httpd.sh [rounds [seconds]]
#
# Prints requests a second of each run, the ratio of each round, and the medians. Any error that wrk sees fails it.
# Each server has the machine's first CPU to itself and wrk the rest, where taskset can do that.
set -eu
cd "$(dirname "$0")/.."
rounds=${1:-3} seconds=${2:-10} port=${PORT:-18473}
for tool in wrk curl; do
  command -v $tool >/dev/null || { echo "benches/httpd.sh: needs $tool (apt-get install $tool)" >&2; exit 1; }
done
make -s build/examples/httpd
${CC:-cc} -std=c11 -O2 -Wall -Wextra benches/raw_poll_httpd.c -o build/raw_poll_httpd
server_cpu='' client_cpu=''
if command -v taskset >/dev/null && [ "$(nproc)" -gt 1 ]; then
  server_cpu='taskset -c 0' client_cpu="taskset -c 1-$(($(nproc) - 1))"
fi
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true' EXIT

# measure NAME COMMAND...: leaves the requests a second in $result and the answer in build/NAME.answer
measure() {
  name=$1
  shift
  $server_cpu "$@" >/dev/null &
  server=$!
  curl -si --retry 20 --retry-connrefused --retry-delay 1 "http://127.0.0.1:$port/hello" >"build/$name.answer"
  output=$($client_cpu wrk -t1 -c64 "-d${seconds}" "http://127.0.0.1:$port/hello")
  kill "$server"
  wait "$server" 2>/dev/null || true
  server=
  if echo "$output" | grep -E 'Socket errors|Non-2xx' >&2; then
    echo "benches/httpd.sh: $name lost something" >&2
    exit 1
  fi
  result=$(echo "$output" | awk '/^Requests\/sec/ {print $2}')
}

: >build/httpd.rounds
round=0
while [ "$round" -lt "$rounds" ]; do
  round=$((round + 1))
  measure raw build/raw_poll_httpd "$port"
  raw=$result
  measure httpd build/examples/httpd --port "$port" --backend poll
  cmp build/raw.answer build/httpd.answer
  echo "$raw $result" | tee -a build/httpd.rounds |
    awk -v round="$round" '{printf "round %d: raw poll %d/s, httpd %d/s, ratio %.3f\n", round, $1, $2, $2 / $1}'
done
median() { sort -n | awk '{value[NR] = $1} END {print value[int((NR + 1) / 2)]}'; }
echo "median: raw poll $(awk '{print $1}' build/httpd.rounds | median)/s," \
  "httpd $(awk '{print $2}' build/httpd.rounds | median)/s," \
  "ratio $(awk '{printf "%.3f\n", $2 / $1}' build/httpd.rounds | median)"
