#!/bin/sh
# What becket adds to a program, in bytes: `make size`, and tests/size.rs checks the numbers.
#
# Usage: tests/size.sh ARCHIVE, from the top folder; $CC is the compiler.
#
# Method: c-examples/plain_echo.c is linked with the archive, without what it does not use (--gc-sections), and stripped. The
# linker's map says how many bytes of which input section of which object went where; those of the archive's objects are
# added up. text is code and constants. The unwind tables, from which debuggers and valgrind read the stack, have a line of
# their own: no code of becket's uses them, and an embedded link may discard them (.eh_frame). The C library is not in it,
# nor the program's own memory (its loop, its sources): the last three lines tell the sizes of these.
set -eu

archive=$1
cc=${CC:-cc}
folder=build/size
mkdir -p $folder

$cc -std=c11 -O2 -Iinclude -Ic-examples c-examples/plain_echo.c "$archive" -ffunction-sections -fdata-sections \
  -Wl,--gc-sections -Wl,-s -Wl,-Map,$folder/echo.map -o $folder/echo

awk -v archive="$(basename "$archive")(" '
  function number(hex,   value, place) {
    value = 0
    hex = tolower(substr(hex, 3))
    for (place = 1; place <= length(hex); place++) value = value * 16 + index("0123456789abcdef", substr(hex, place, 1)) - 1
    return value
  }
  # Discarded sections are listed before this line.
  /^Linker script and memory map/ { mapped = 1; next }
  !mapped { next }
  /^\.[a-zA-Z_]/ { output = $1; next }
  # " .text.name  0xADDRESS 0xSIZE file", or the long name on a line of its own.
  /^ \.[^ ]+$/ { next }
  {
    address = ($1 ~ /^0x/) ? 1 : 2
    if ($(address) !~ /^0x/ || $(address + 1) !~ /^0x/ || index($0, archive) == 0) next
    if (output ~ /^\.(comment|debug|note)/) next # not loaded
    bytes = number($(address + 1))
    if (output ~ /^\.(bss|tbss)/) bss += bytes
    else if (output ~ /^\.(data|tdata|got|init_array|fini_array)/) data += bytes
    else if (output ~ /^\.(eh_frame|gcc_except_table)/) unwind += bytes
    else text += bytes
  }
  END { printf "text %d\ndata %d\nbss %d\nunwind %d\n", text, data, bss, unwind }
' $folder/echo.map

# By the function, not the macros: so it is what the library really asks for.
cat > $folder/units.c <<'EOF'
#include <becket.h>
#include <stdio.h>
int main(void) {
  size_t base = becket_memory_size(1, 1, 0);
  size_t source = (becket_memory_size(1001, 1, 0) - base) / 1000;
  size_t post = (becket_memory_size(1, 1001, 0) - base) / 1000;
  return printf("source %zu\npost %zu\nloop %zu\n", source, post, base - source - post) < 0;
}
EOF
$cc -std=c11 -Iinclude $folder/units.c "$archive" -o $folder/units
$folder/units
