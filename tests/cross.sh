#!/usr/bin/env bash
# becket for other targets.
#
#   tests/cross.sh check [TARGET...]   compiles the library: it compiles where it cannot be run
#   tests/cross.sh test [TARGET...]    runs the C test programs and the Rust tests of the library on the targets that this
#                                      machine can emulate; ends with an error when one fails
#
# The Rust library of a target comes from rustup, or else it is built from Debian's sources (rust-web-src), with
# Debian's compiler, in a folder of its own. Where neither can be had, and where a C compiler or an emulator is missing, the
# target is skipped, and it says so.
#
# An emulator of user programs (qemu-user) translates system calls and has not all of them: no io_uring, and no
# MADV_WIPEONFORK, so that the ways around these are tested here. What asks for io_uring is skipped by the tests
# themselves, as on a kernel without it.
set -euo pipefail
cd "$(dirname "$0")/.."

# Target; and to run programs: the C compiler and emulator. The libraries are Debian's, in /usr/TRIPLE.
targets='
  aarch64-unknown-linux-gnu     aarch64-linux-gnu    qemu-aarch64
  armv7-unknown-linux-gnueabihf arm-linux-gnueabihf  qemu-arm
  riscv64gc-unknown-linux-gnu   riscv64-linux-gnu    qemu-riscv64
  i686-unknown-linux-gnu        i686-linux-gnu       qemu-i386
  x86_64-unknown-freebsd
  x86_64-unknown-netbsd
  x86_64-unknown-openbsd
  x86_64-apple-darwin
  aarch64-apple-darwin
'
# The Rust tests that are about the library: the others build C programs for this machine, or read the sources.
rust_tests=(--lib --test conformance --test model --test regressions --test simulator)

folder=$PWD/build/cross
failed=()

skip() {
  echo "skipped: $*"
}

# Debian's compiler with the sources of the Rust library: unpacked, not installed, since it may not go together with what is.
debian_rust() {
  local rust=$folder/debian
  [[ -e $rust/done ]] && return
  command -v apt-get dpkg > /dev/null || return
  rm -rf "$rust" && mkdir -p "$rust/packages"
  local packages
  packages=$(apt-get install --simulate --no-install-recommends rustc-web cargo-web rust-web-src 2> /dev/null |
    sed -n 's/^Inst \([^ ]*\) .*/\1/p')
  [[ $packages ]] || return
  # shellcheck disable=SC2086 # a list of words
  (cd "$rust/packages" && apt-get download -q $packages > /dev/null 2>&1) || return
  local package
  for package in "$rust"/packages/*.deb; do dpkg -x "$package" "$rust" || return; done
  rm -rf "$rust/packages"
  touch "$rust/done"
}

# Whether there is a Rust library for a target. Then `cargo` is what compiles for it; what stands in `std` is to be compiled
# with it, when that is not the core alone.
prepare() {
  cargo=(cargo)
  std=()
  rust=()
  if command -v rustup > /dev/null && rustup target add "$1" > /dev/null 2>&1; then
    return
  fi
  debian_rust || return
  local triple
  triple=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2> /dev/null || echo x86_64-linux-gnu)
  rust=(env LD_LIBRARY_PATH="$folder/debian/usr/lib/$triple" RUSTC="$folder/debian/usr/bin/rustc"
    RUSTDOC="$folder/debian/usr/bin/rustdoc" RUSTC_BOOTSTRAP=1 CARGO_PROFILE_DEV_PANIC=unwind)
  cargo=("${rust[@]}" "$folder/debian/usr/bin/cargo" -Zbuild-std=core)
  std=(-Zbuild-std=std,panic_unwind)
}

check() {
  if prepare "$1"; then
    echo "check $1"
    "${cargo[@]}" check --quiet --locked --features capi,aio --target "$1" --target-dir "$folder/check" || failed+=("check $1")
  else
    skip "a check for $1 (install rustup, which fetches its library, or use Debian, which has the sources)"
  fi
}

# A tree beside ours that shares our files and has a build folder of its own.
tree() {
  mkdir -p "$1"
  local file
  for file in Cargo.toml Cargo.lock build.rs Makefile src include c-examples tests examples benches README.md; do
    [[ -e $file ]] && ln -sfn "$PWD/$file" "$1/$file"
  done
}

run_c_programs() {
  local target=$1 cc=$2 tree=$folder/$1 program name
  tree "$tree"
  if ! make -s -C "$tree" programs TARGET="$target" CC="$cc" CARGO="${cargo[*]}" LDFLAGS="$link_arguments"; then
    failed+=("the C programs for $target")
    return
  fi
  for program in "$tree"/build/tests/* "$tree"/build/aio/tests/*; do
    [[ -x $program && ! -d $program && $program != *.so ]] || continue
    name=${program#"$tree"/build/}
    echo "run   $target $name"
    (cd "$tree" && timeout 600 "${runner[@]}" "$program") || failed+=("$name on $target")
  done
}

run_rust_tests() {
  local target=$1 cc=$2 name=${1^^}
  name=CARGO_TARGET_${name//-/_}
  local variables=("${name}_LINKER=$cc" "${name}_RUSTFLAGS=${link_arguments//-Wl,/-Clink-arg=-Wl,}")
  if ((${#runner[@]})); then variables+=("${name}_RUNNER=${runner[*]}" "BECKET_TEST_RUNNER=${runner[*]}" BECKET_SEEDS=10); fi
  echo "test  $target"
  env "${variables[@]}" "${cargo[@]}" "${std[@]}" test --quiet --locked --no-fail-fast --features capi --target "$target" \
    --target-dir "$folder/tests" "${rust_tests[@]}" || failed+=("the Rust tests on $target")
}

# Whether this machine runs programs of the target by itself: then they have only to know where their C library is.
natively() {
  local link="-Wl,--dynamic-linker=/usr/$1/lib/ld-linux.so.2 -Wl,-rpath,/usr/$1/lib"
  # shellcheck disable=SC2086 # a list of words
  [[ $1 == i686-* ]] && echo 'int main(void) { return 0; }' | "$1-gcc" -x c - $link -o "$folder/empty" &&
    "$folder/empty" 2> /dev/null || return
  link_arguments=$link
}

test_target() {
  local target=$1 triple=$2 emulator=$3 link_arguments=
  if [[ ! $triple ]]; then
    skip "tests on $target (there is no emulator of its programs)"
  elif ! command -v "$triple-gcc" > /dev/null; then
    skip "tests on $target (install gcc-$triple)"
  elif ! natively "$triple" && ! command -v "$emulator" > /dev/null; then
    skip "tests on $target (install qemu-user)"
  elif ! prepare "$target"; then
    skip "tests on $target (install rustup, which fetches its library, or use Debian, which has the sources)"
  else
    runner=()
    [[ $link_arguments ]] || runner=("$emulator" -L "/usr/$triple")
    run_c_programs "$target" "$triple-gcc"
    run_rust_tests "$target" "$triple-gcc"
  fi
}

mkdir -p "$folder"
what=${1:-}
shift || true
while read -r target triple emulator; do
  [[ $target ]] || continue
  if (($#)) && [[ " $* " != *" $target "* ]]; then continue; fi
  case $what in
    check) check "$target" < /dev/null ;;
    test) (($#)) || [[ $triple ]] && test_target "$target" "$triple" "$emulator" < /dev/null ;;
    *)
      sed -n '2,/^set/s/^#\( \|$\)//p' "$0"
      exit 2
      ;;
  esac
done <<< "$targets"

if ((${#failed[@]})); then
  printf 'failed: %s\n' "${failed[@]}"
  exit 1
fi
