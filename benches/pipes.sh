#!/bin/sh
# What an event costs: bytes that go round in rings of pipes (benches/pipes.c), by turns with a raw epoll loop, with becket and
# with other event libraries.
#
#   benches/pipes.sh [repetitions [events]]
#
# Prints, for watched/active pipes, the median ns/event of each loop, and its ratio to raw epoll: the median of the ratios of
# each repetition, and the least and the greatest of them. Then the user instructions of an event, which do not depend on the
# machine's mood, counted step by step (benches/steps.c).
# Libraries that are not installed are left out.
set -eu
cd "$(dirname "$0")/.."
repetitions=${1:-5} events=${2:-300000}
need=10400 # descriptors, for 10,000 idle ones
hard=$(ulimit -H -n)
if [ "$hard" = unlimited ] || [ "$hard" -gt $need ]; then hard=$need; fi
ulimit -S -n "$hard"

make -s archive
mkdir -p build/pipes

# build NAME FLAGS...
build() {
  name=$1
  shift
  ${CC:-cc} -std=c11 -O2 -g -Wall -Wextra -Iinclude benches/pipes.c "$@" -o "build/pipes/$name"
}
# other NAME HEADER PACKAGE FLAGS...: a library that may be missing
other() {
  if ${CC:-cc} -E -include "$2" -x c /dev/null >/dev/null 2>&1; then
    build "$1" "$4" "$5"
    loops="$loops $1"
  else
    echo "skipped: $1 (install $3)"
  fi
}
build raw -DRAW
build becket -DBECKET build/libbecket.a
loops='raw becket-epoll becket-io_uring becket-io_uring-edge becket-poll'
other libev ev.h libev-dev -DLIBEV -lev
other libevent event2/event.h libevent-dev -DLIBEVENT -levent_core
other libuv uv.h libuv1-dev -DLIBUV -luv
if ! build/pipes/becket 2 1 10 0 io_uring >/dev/null 2>&1; then
  echo 'skipped: becket on io_uring (this kernel does not grant it)'
  loops=$(echo "$loops" | sed 's/becket-io_uring-edge//; s/becket-io_uring//')
fi
pin=''
if command -v taskset >/dev/null && [ "$(nproc)" -gt 1 ]; then pin='taskset -c 0'; fi

# run LOOP PIPES ACTIVE EVENTS IDLE, after a prefix in $before
before=''
run() {
  # $before is split into words.
  # shellcheck disable=SC2086
  case $1 in
    becket-*) $before build/pipes/becket "$2" "$3" "$4" "$5" "${1#becket-}" ;;
    *) $before "build/pipes/$1" "$2" "$3" "$4" "$5" ;;
  esac
}

sizes=''
for size in 128/1 128/100 1024/100 4096/100; do
  descriptors=$((${size%/*} * 2 + 20))
  if [ "$descriptors" -gt "$hard" ]; then
    echo "skipped: $size (needs ulimit -n $descriptors)"
  else
    sizes="$sizes $size"
  fi
done

echo "ns/event: the median of $repetitions runs of $events events; and the ratio to raw epoll (least .. greatest)"
for size in $sizes; do
  : >build/pipes/results
  repetition=0
  before=$pin
  while [ "$repetition" -lt "$repetitions" ]; do
    repetition=$((repetition + 1))
    for loop in $loops; do
      echo "$repetition $loop $(run "$loop" "${size%/*}" "${size#*/}" "$events" 0)" >>build/pipes/results
    done
  done
  awk -v size="$size" '
    function sorted(values, count,   i, j, value) {
      for (i = 2; i <= count; i++) {
        value = values[i]
        for (j = i - 1; j > 0 && values[j] > value; j--) values[j + 1] = values[j]
        values[j + 1] = value
      }
    }
    { ns[$2, $1] = $3; if ($1 > rounds) rounds = $1; if (!($2 in seen)) { seen[$2] = 1; names[++known] = $2 } }
    END {
      middle = int((rounds + 1) / 2)
      for (n = 1; n <= known; n++) {
        for (r = 1; r <= rounds; r++) { one[r] = ns[names[n], r]; ratio[r] = ns[names[n], r] / ns["raw", r] }
        sorted(one, rounds)
        sorted(ratio, rounds)
        printf "%-9s %-21s %8.1f  %6.3f (%.3f .. %.3f)\n", size, names[n], one[middle], ratio[middle], ratio[1], ratio[rounds]
      }
    }' build/pipes/results
done

# A traced program is slow: few events, and the difference of two runs, so that the first turns do not count.
steps() { run "$@" 2>&1 >/dev/null | tail -n 1; }
# instructions LOOP PIPES ACTIVE IDLE: those of an event
instructions() {
  few=500
  [ "$3" -eq 1 ] || few=2000
  short=$(steps "$1" "$2" "$3" "$few" "$4")
  long=$(steps "$1" "$2" "$3" $((few * 3)) "$4")
  echo "$short $long $few" | awk '{printf "%.1f\n", ($2 - $1) / (2 * $3)}'
}

${CC:-cc} -std=c11 -O2 -Wall -Wextra benches/steps.c -o build/pipes/steps
before=build/pipes/steps
if ! steps raw 2 1 10 0 | grep -q '^[0-9]*$'; then
  echo 'skipped: instructions (this system does not let a program be traced, ptrace(2))'
  exit 0
fi
handler=45 # pass(), read(2) and write(2) of the C library, by callgrind
echo "user instructions/event: all, and without the handler, which takes $handler with its read and write"
for size in 128/1 128/100; do
  for loop in $loops; do
    each=$(instructions "$loop" "${size%/*}" "${size#*/}" 0)
    echo "$each" |
      awk -v size="$size" -v loop="$loop" -v handler="$handler" '{printf "%-9s %-21s %8.1f %8.1f\n", size, loop, $1, $1 - handler}'
  done
done

if [ "$hard" -lt "$need" ]; then
  echo "skipped: 10,000 idle descriptors beside 100 active ones (needs ulimit -n $need)"
  exit 0
fi
echo 'user instructions/event, 100 active pipes alone, and beside 10,000 idle descriptors:'
for loop in $loops; do
  case $loop in
    raw | becket-epoll | becket-io_uring*)
      alone=$(instructions "$loop" 100 100 0)
      beside=$(instructions "$loop" 100 100 10000)
      echo "$alone $beside" |
        awk -v loop="$loop" '{printf "%-31s %8.1f %8.1f  %+.2f %%\n", loop, $1, $2, ($2 / $1 - 1) * 100}'
      ;;
  esac
done
