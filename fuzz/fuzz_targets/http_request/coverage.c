/* Coverage of the C code, for libFuzzer. gcc has no other than a call of __sanitizer_cov_trace_pc at each edge, which
 * libFuzzer itself has given up; the linker is told to take this one in its place (--wrap). libFuzzer takes counters
 * from a section of this name. (This file is compiled without such calls.) */
#include <stdint.h>

static uint8_t counters[1 << 14] __attribute__((section("__libfuzzer_extra_counters"), used));

void __wrap___sanitizer_cov_trace_pc(void);
void __wrap___sanitizer_cov_trace_pc(void) {
  /* The program lies at another address in each run: an edge is told by its distance from here. */
  uintptr_t edge = (uintptr_t)__builtin_return_address(0) - (uintptr_t)&__wrap___sanitizer_cov_trace_pc;
  uint8_t *counter = &counters[edge % sizeof counters];
  if (*counter < UINT8_MAX) ++*counter;
}
