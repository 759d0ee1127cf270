/* The other unit. It includes the header twice. */
#include <becket.h>
#include <becket.h>

#ifdef __cplusplus
extern "C" int other_unit(void);
#else
int other_unit(void);
#endif

static BECKET_MEMORY(memory, 2, 0, 0);

static void on_timer(becket_loop *loop, const becket_event *event, void *user) {
  *(int *)user += 1;
  if (becket_remove(loop, event->handle) != 0) *(int *)user = -1;
}

int other_unit(void) {
  becket_config config = {sizeof config, BECKET_BACKEND_POLL, BECKET_VIRTUAL_CLOCK, 0, 0, NULL, NULL, 0, 0, NULL, NULL};
  becket_loop *loop;
  becket_handle timer;
  int fired = 0;
  if (becket_loop_init(&loop, &memory, &config) != 0) return 3;
  if (becket_timer_add(loop, 3600 * UINT64_C(1000000000), 0, on_timer, &fired, &timer) != 0) return 4;
  if (becket_run(loop) != 0 || fired != 1) return 5;
  return becket_loop_close(loop) == 0 ? 0 : 6;
}
