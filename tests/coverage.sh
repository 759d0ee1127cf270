#!/usr/bin/env bash
# Which lines of src the tests run, the Rust ones and the C programs: `make coverage`. One line a file, the total last; the
# lines that none runs are in build/coverage/uncovered.
#
# What a process does that ends by a signal is not counted. Needs LLVM's llvm-profdata and llvm-cov of the
# compiler's version.
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
# %4m: processes of one program share four files.
export RUSTFLAGS=-Cinstrument-coverage LLVM_PROFILE_FILE="$folder/%4m.profraw"
# The C programs, with an archive that counts. What writes the counts down is in it, and has to be asked for;
# exit(3) calls it, and _exit(2) would not.
make --no-print-directory -s BUILD=build/coverage AIO=1 CFLAGS='-O2 -g -D_exit=exit' \
  LDFLAGS=-Wl,-u,__llvm_profile_runtime programs
# All test files but those that have nothing to do with what src does, or that call make.
arguments=(test --locked --features capi,aio --target-dir "$folder/target" --no-fail-fast --lib)
for file in tests/*.rs; do
  case $(basename "$file" .rs) in
    fuzz | header | install | layers | no_allocation | readme | rust_examples | size | tasks) ;;
    *) arguments+=(--test "$(basename "$file" .rs)") ;;
  esac
done
# Programs that were built, in quotes, one a line.
programs=$(cargo "${arguments[@]}" --no-run --message-format=json 2> /dev/null |
  sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
# (One of them runs a program as somebody who cannot write counts, which says so; the other has been run with all.)
# A test that fails does not take the numbers away; it is what this ends with.
outcome=0
BECKET_BUILD=build/coverage cargo "${arguments[@]}" --quiet -- \
  --skip what_may_not_be_read_is_403 --skip those_with_aio_end_with_0 || outcome=$?
"$profdata" merge -sparse "$folder"/*.profraw -o "$folder/all.profdata"
rm -f "$folder"/*.profraw
# Every C program has the same library in it.
objects=("$folder/tests/misuse")
while read -r program; do objects+=(--object "$program"); done <<< "$programs"
# (Not `report`: of a function that was compiled twice that counts the better half, and not both.)
"$cov" export --format=lcov --instr-profile "$folder/all.profdata" "${objects[@]}" \
  --ignore-filename-regex '/(tests|\.cargo|rustc)/|tests\.rs' 2> "$folder/remarks" |
  awk -F '[:,]' -v uncovered="$folder/uncovered" -v root="$PWD/" '
    function range() { if (first) missed = missed (missed ? ", " : "") (first == last ? first : first "-" last); first = 0 }
    function print_line(name, run, lines) { printf "%-40s %6.2f %%  %5d of %5d lines\n", name, lines ? 100 * run / lines : 100, run, lines }
    /^SF:/ { name = substr($0, 4 + length(root)); run = lines = first = 0; missed = "" }
    /^DA:/ {
      lines++
      if ($3 > 0) { run++; range() } else { if (!first) first = $2; last = $2 }
    }
    /^end_of_record/ {
      range()
      print_line(name, run, lines)
      if (missed) print name ": " missed > uncovered
      all_run += run; all_lines += lines
    }
    END { print_line("all", all_run, all_lines) }' || { cat "$folder/remarks" >&2; exit 1; }
echo "which lines: $cov show --instr-profile build/coverage/all.profdata ${objects[*]}" > "$folder/show"
exit $outcome
