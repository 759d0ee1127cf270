#!/usr/bin/env bash
# Which lines of src the Rust tests of the library run: `make coverage`. One line a file, the total last.
#
# The C programs are not counted: what they alone run, src/ffi above all, is low here. Needs LLVM's llvm-profdata and
# llvm-cov of the compiler's version.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
folder=$PWD/build/coverage
# As installed, with the version in the name, or as rustup's component llvm-tools has it.
tool() {
  local rustup
  rustup=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/$1
  command -v "$1-$version" || { [[ -x $rustup ]] && echo "$rustup"; }
}
if ! profdata=$(tool llvm-profdata) || ! cov=$(tool llvm-cov); then
  echo "skipped: coverage (install llvm-$version, or rustup component add llvm-tools)"
  exit 0
fi

mkdir -p "$folder"
rm -f "$folder"/*.profraw
export RUSTFLAGS=-Cinstrument-coverage LLVM_PROFILE_FILE="$folder/%p-%m.profraw"
arguments=(test --locked --features capi --target-dir "$folder/target"
  --lib --test conformance --test model --test regressions --test simulator)
# Programs that were built, in quotes, one a line.
programs=$(cargo "${arguments[@]}" --no-run --message-format=json 2> /dev/null |
  sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
cargo "${arguments[@]}" --quiet
"$profdata" merge -sparse "$folder"/*.profraw -o "$folder/all.profdata"
rm -f "$folder"/*.profraw
objects=()
while read -r program; do objects+=(--object "$program"); done <<< "$programs"
"$cov" report --instr-profile "$folder/all.profdata" "${objects[@]:1}" --ignore-filename-regex '/(tests|\.cargo|rustc)/|tests\.rs' \
  --show-region-summary=false --show-branch-summary=false
echo "which lines: $cov show --instr-profile build/coverage/all.profdata ${objects[*]:1}" > "$folder/show"
