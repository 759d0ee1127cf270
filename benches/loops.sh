#!/bin/sh
# What a loop does without the system (benches/loops.c), by turns with libev: values posted and handled; timers armed, armed
# again, cancelled and expired.
#
#   benches/loops.sh [repetitions [timers]]
#
# Prints the median of the nanoseconds of one, and with valgrind its user instructions, which do not depend on the machine's
# mood. (The random numbers that choose the deadlines are in both.)
set -eu
cd "$(dirname "$0")/.."
repetitions=${1:-5} timers=${2:-100000} posts=1000000
make -s archive
mkdir -p build/loops
build="${CC:-cc} -std=c11 -O2 -g -Wall -Wextra -Iinclude benches/loops.c"
$build -DBECKET build/libbecket.a -o build/loops/becket
loops=becket
if ${CC:-cc} -E -include ev.h -x c /dev/null >/dev/null 2>&1; then
  $build -DLIBEV -lev -o build/loops/libev
  loops='becket libev'
else
  echo 'skipped: libev (install libev-dev)'
fi

median() { sort -n | awk '{value[NR] = $1} END {print value[int((NR + 1) / 2)]}'; }

for what in posts arm rearm cancel expire; do
  count=$timers
  [ $what != posts ] || count=$posts
  for loop in $loops; do : >"build/loops/$loop.ns"; done
  repetition=0
  while [ "$repetition" -lt "$repetitions" ]; do
    repetition=$((repetition + 1))
    for loop in $loops; do build/loops/$loop $what "$count" >>"build/loops/$loop.ns"; done
  done
  for loop in $loops; do
    instructions=''
    if command -v valgrind >/dev/null; then
      instructions=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect=measured \
        build/loops/$loop $what "$timers" 2>&1 | awk -v count="$timers" '/Collected/ {printf "%.0f instructions", $4 / count}')
    fi
    printf '%-7s %-7s %8.1f ns  %s\n' $what $loop "$(median <"build/loops/$loop.ns")" "$instructions"
  done
done
command -v valgrind >/dev/null || echo 'skipped: instructions (install valgrind)'
