#!/bin/sh
# Echo servers that do the same (benches/streams.c), by turns: becket's streams on each backend, and loops written by hand on epoll
# and io_uring.
#
#   benches/streams.sh [repetitions [seconds]]
#
# For connections x requests in flight, and the size of a message and of a receive buffer: requests a second, and the processor
# time of the server for one; of both the median, and the ratio to the epoll loop by hand in the same repetition (median, least ..
# greatest). Then the same of servers that answer every 64 bytes by a request of their own, at once and gathered (batch). Server and
# client have a CPU of their own each. Then user instructions of a request, counted step by step (benches/steps.c), and the memory
# of 10,000 idle streams. System calls: benches/calls.sh.
set -eu
cd "$(dirname "$0")/.."
repetitions=${1:-5} seconds=${2:-1}
ways='raw-epoll raw-io_uring becket-poll becket-epoll becket-io_uring'
folder=build/streams idle=10000
hard=$(ulimit -H -n)
if [ "$hard" = unlimited ] || [ "$hard" -gt $((idle + 100)) ]; then hard=$((idle + 100)); fi
ulimit -S -n "$hard"

make -s archive
mkdir -p $folder
build="${CC:-cc} -std=c11 -O2 -g -Wall -Wextra -Iinclude"
$build benches/streams.c build/libbecket.a -o $folder/streams
$build benches/echo_client.c -o build/echo_client
$build benches/steps.c -o $folder/steps
server_cpu='' client_cpu=''
if command -v taskset >/dev/null && [ "$(nproc)" -gt 1 ]; then
  server_cpu='taskset -c 0' client_cpu="taskset -c 1-$(($(nproc) - 1))"
fi
server='' client=''
trap 'for process in $server $client; do kill "$process" 2>/dev/null || true; done' EXIT
trap 'exit 1' INT TERM

# start COMMAND...: the server, whose port is left in $port
start() {
  : >$folder/out
  "$@" >$folder/out 2>$folder/err &
  server=$!
  tries=0
  until port=$(sed -n 's/^listening on 127\.0\.0\.1:\([0-9]*\)$/\1/p' $folder/out) && [ -n "$port" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 500 ] || ! kill -0 $server 2>/dev/null; then
      cat $folder/err >&2
      return 1
    fi
    sleep 0.02
  done
}

# ask WAY CONNECTIONS IN_FLIGHT SIZE BUFFER: leaves requests a second, and the server's nanoseconds for one, in $result
ask() {
  start $server_cpu $folder/streams "$1" "$5"
  $client_cpu build/echo_client "$port" "$2" 1000000000 "$3" "$4" "$seconds" >$folder/asked
  wait $server
  server=
  result=$(echo "$(cat $folder/asked) $(tail -n 1 $folder/out)" | awk '{printf "%.1f %.1f\n", $1 / $2, $3 / $1}')
}

for way in $ways; do
  start $folder/streams "$way" || { echo "skipped: $way (this system does not grant it)"; ways=$(echo "$ways" | sed "s/$way//"); }
  kill $server 2>/dev/null || true
  wait $server 2>/dev/null || true
  server=
done

echo "connections x in flight, bytes of a message/buffer: requests/s and server ns/request, medians of $repetitions runs of $seconds s;"
echo 'and their ratios to raw-epoll (least .. greatest)'
for what in '1 1 64 4096' '50 1 64 4096' '50 16 64 4096' '50 1 4096 4096' '50 16 4096 4096' '50 16 4096 65536' \
  '1 1 64 4096 each' '50 1 64 4096 each' '50 16 64 4096 each'; do
  # shellcheck disable=SC2086
  set -- $what
  here=$ways
  if [ $# -gt 4 ]; then
    here=raw-epoll
    for backend in epoll io_uring; do
      case "$ways " in *becket-"$backend "*) here="$here each-$backend batch-$backend" ;; esac
    done
  fi
  : >$folder/results
  repetition=0
  while [ "$repetition" -lt "$repetitions" ]; do
    repetition=$((repetition + 1))
    for way in $here; do
      ask "$way" "$1" "$2" "$3" "$4"
      echo "$repetition $way $result" >>$folder/results
    done
  done
  awk -v what="$1 x $2, $3/$4" '
    function sorted(values, count,   i, j, value) {
      for (i = 2; i <= count; i++) {
        value = values[i]
        for (j = i - 1; j > 0 && values[j] > value; j--) values[j + 1] = values[j]
        values[j + 1] = value
      }
    }
    function show(format, of, way,   r) {
      for (r = 1; r <= rounds; r++) { one[r] = of[way, r]; ratio[r] = of[way, r] / of["raw-epoll", r] }
      sorted(one, rounds)
      sorted(ratio, rounds)
      return sprintf(format, one[middle], ratio[middle], ratio[1], ratio[rounds])
    }
    { rate[$2, $1] = $3; time[$2, $1] = $4; if ($1 > rounds) rounds = $1; if (!($2 in seen)) { seen[$2] = 1; names[++known] = $2 } }
    END {
      middle = int((rounds + 1) / 2)
      for (n = 1; n <= known; n++)
        printf "%-19s %-16s %8s   %s\n", what, names[n], show("%8.0f/s %5.2f (%.2f .. %.2f)", rate, names[n]),
          show("%7.0f ns %5.2f (%.2f .. %.2f)", time, names[n])
    }' $folder/results
done

# steps WAY CONNECTIONS IN_FLIGHT REQUESTS: leaves the user instructions of a server's life in $result
steps() {
  start $folder/steps $folder/streams "$1"
  build/echo_client "$port" "$2" "$4" "$3"
  wait $server
  server=
  result=$(tail -n 1 $folder/err)
}
# instructions WAY CONNECTIONS IN_FLIGHT: prints those of a request, as the difference of two runs
instructions() {
  few=$(($2 * $3 * 2))
  [ "$few" -ge 200 ] || few=200
  steps "$1" "$2" "$3" $few
  short=$result
  steps "$1" "$2" "$3" $((few * 3))
  echo "$short $result $few" | awk '{printf " %8.1f", ($2 - $1) / (2 * $3)}'
}
if start $folder/steps $folder/streams raw-epoll && build/echo_client "$port" 1 10 && wait $server && grep -q '^[0-9]*$' $folder/err; then
  echo 'user instructions of a request of 64 bytes: 1 x 1, 50 x 1, 50 x 16'
  for way in $ways; do
    printf '%-16s' "$way"
    instructions "$way" 1 1
    instructions "$way" 50 1
    instructions "$way" 50 16
    echo
  done
else
  echo 'skipped: instructions (this system does not let a program be traced, ptrace(2))'
fi
server=

if [ "$hard" -lt $((idle + 100)) ]; then
  echo "skipped: $idle idle streams (needs ulimit -n $((idle + 100)))"
  exit 0
fi
echo "memory of $idle idle streams, each after one request, in bytes a stream:"
cat >$folder/macros.c <<'END'
#include <becket.h>
#include <stdio.h>
int main(void) { return printf("%d\n", BECKET_SOURCE_BYTES + BECKET_STREAM_BYTES) < 0; }
END
$build $folder/macros.c -o $folder/macros
echo "becket by its macros $($folder/macros); resident:"
# held CONNECTIONS: leaves in $result what is resident of the server while so many are idle, after 10,000 requests
held() {
  start $folder/streams "$way"
  mkfifo $folder/input
  build/echo_client "$port" "$1" $idle 1 64 0 <$folder/input >$folder/asked &
  client=$!
  exec 3>$folder/input
  rm $folder/input
  until grep -q idle $folder/asked; do
    kill -0 $client
    sleep 0.1
  done
  result=$(awk '/^RssAnon/ {print $2 * 1024}' "/proc/$server/status")
  exec 3>&-
  wait $client $server
  server='' client=''
}
for way in $ways; do
  held $((idle / 5)) # what is there once does not count
  once=$result
  held $idle
  echo "$way $once $result $idle" | awk '{printf "%-16s %.1f\n", $1, ($3 - $2) / ($4 * 0.8)}'
done
