#!/bin/sh
# Runs every fuzz target for its share of the time: `make fuzz SECONDS=60`. With SEED, libFuzzer's choices begin with
# that. A target that finds something ends it with an error; the input is printed, and how to run it again.
#
# What is found on the way stays in build/fuzz/corpus for the next time; fuzz/corpus has what every run begins with.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
seed=${2:-0}

skip() {
  echo "skipped: fuzzing (install $1)"
  exit 0
}
cargo +nightly --version > /dev/null 2>&1 || skip 'a nightly compiler: rustup toolchain install nightly --profile minimal'
cargo fuzz --version > /dev/null 2>&1 || skip 'cargo-fuzz: cargo install cargo-fuzz --locked'
command -v "${CXX:-c++}" > /dev/null || skip 'g++'

build=build/fuzz
mkdir -p $build
cargo +nightly fuzz build --fuzz-dir fuzz --target-dir $build > $build/build.log 2>&1 || {
  cat $build/build.log
  exit 1
}
targets=$(cargo +nightly fuzz list --fuzz-dir fuzz)
share=$((seconds / $(echo "$targets" | wc -l)))
# Leaks are what the targets look for themselves. (The sanitizer's own search needs ptrace(2).)
export ASAN_OPTIONS=detect_odr_violation=0:detect_leaks=0:quarantine_size_mb=32
export RUST_BACKTRACE=0

for target in $targets; do
  program=$(echo $build/*/release/"$target")
  corpus=$build/corpus/$target
  found=$build/found/$target/
  log=$build/$target.log
  mkdir -p "$corpus" "$found"
  rm -f "$found"*
  if "$program" -max_total_time="$share" -seed="$seed" -max_len=1024 -timeout=60 -rss_limit_mb=2048 -detect_leaks=0 \
    -artifact_prefix="$found" "$corpus" "fuzz/corpus/$target" > "$log" 2>&1; then
    echo "fuzz $target: $(sed -n 's/^Done \([0-9]*\) runs in \([0-9]*\) .*/\1 runs in \2 s/p' "$log")," \
      "$(sed -n 's/.* cov: \([0-9]*\) ft: \([0-9]*\) .*/\1 edges/p' "$log" | tail -n 1)"
    continue
  fi
  grep -v '^#[0-9]' "$log" | tail -n 80
  for input in "$found"*; do
    [ -e "$input" ] || continue
    printf '\nfuzz %s found something. The input, for `base64 -d`:\n\n' "$target"
    base64 "$input"
    printf '\nAgain: cargo +nightly fuzz run --fuzz-dir fuzz %s FILE\n' "$target"
  done
  exit 1
done
