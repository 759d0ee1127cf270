/* One of two units that include becket.h: everything in it that is defined and not only declared must be usable from
 * both without a clash, as C11 and as C++17. */
#include <becket.h>

#ifdef __cplusplus
extern "C" int other_unit(void);
#else
int other_unit(void);
#endif

static BECKET_MEMORY(memory, 3, 2, 0);

/* The macro is a constant expression, good for an array of the program's own. */
static uint64_t own[BECKET_MEMORY_SIZE(5, 1, 0) / sizeof(uint64_t)];

int main(void) {
  becket_loop *loop;
  becket_memory described = {sizeof described, own, sizeof own, 5, 1, 0};
  if (becket_loop_init(&loop, &memory, 0) != 0 || becket_run(loop) != 0 || becket_loop_close(loop) != 0) return 1;
  if (becket_loop_init(&loop, &described, 0) != 0 || becket_run(loop) != 0 || becket_loop_close(loop) != 0) return 2;
  return other_unit();
}
