#!/bin/sh
# Random reads of 4 KiB, 32 at a time, beside a timer of 1 ms (benches/reads.c): becket on io_uring, becket on epoll with a ring
# of its own for files, and a loop of io_uring written by hand, by turns; from the page cache, and past it.
#
#   benches/reads.sh [repetitions [seconds]]      FOLDER=build: where the file of 1 GiB lies
#
# Prints the medians: reads a second, their ratio to the loop by hand in the same repetition, and how late the timer was.
set -eu
cd "$(dirname "$0")/.."
repetitions=${1:-5} seconds=${2:-3} file=${FOLDER:-build}/reads.bin
make -s archive
mkdir -p build/reads
${CC:-cc} -std=c11 -O2 -Wall -Wextra -Iinclude benches/reads.c build/libbecket.a -o build/reads/reads
trap 'rm -f "$file"' EXIT
trap 'exit 1' INT TERM
dd if=/dev/urandom of="$file" bs=1M count=1024 2>/dev/null
sync

median() { sort -n | awk '{value[NR] = $1} END {print value[int((NR + 1) / 2)]}'; }

for how in cached direct; do
  argument=$how
  [ $how = direct ] || { argument=; cat "$file" >/dev/null; }
  rm -f build/reads/*.out
  repetition=0
  while [ "$repetition" -lt "$repetitions" ]; do
    repetition=$((repetition + 1))
    # shellcheck disable=SC2086
    for way in 'raw 0' 'becket 4' 'becket 3'; do
      build/reads/reads $way "$file" "$seconds" $argument >>"build/reads/$(echo "$way" | tr ' ' -).out"
    done
  done
  for way in raw-0 becket-4 becket-3; do
    case $way in raw-0) name='by hand' ;; becket-4) name='becket, io_uring' ;; *) name='becket, epoll and a ring' ;; esac
    ratio=$(paste -d' ' build/reads/$way.out build/reads/raw-0.out | awk '{printf "%.3f\n", $1 / $5}' | sort -n)
    printf '%-7s %-25s %9s reads/s  ratio %s (%s to %s)  late (us): half %s, 99 %% %s, worst %s\n' $how "$name" \
      "$(awk '{print $1}' build/reads/$way.out | median)" "$(echo "$ratio" | median)" "$(echo "$ratio" | head -n 1)" \
      "$(echo "$ratio" | tail -n 1)" "$(awk '{print $2}' build/reads/$way.out | median)" \
      "$(awk '{print $3}' build/reads/$way.out | median)" "$(awk '{print $4}' build/reads/$way.out | median)"
  done
done
