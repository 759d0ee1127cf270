/* The simulator from C: what it does, and what it makes of bad arguments. How it behaves in detail is tested in Rust. */
#include "check.h"

#include <netinet/in.h>

static BECKET_MEMORY(memory, 8, 0, 0);
static BECKET_SIMULATOR(world, 6, 4);
static becket_simulator *sim;
static becket_loop *loop;

static uint64_t now(void) {
  uint64_t ns = 0;
  EQUAL(becket_sim_now(sim, &ns), 0);
  return ns;
}

static void begin(uint64_t seed) {
  EQUAL(becket_simulator_init(&sim, &world, seed), 0);
  becket_config config = {.size = sizeof config, .simulator = sim};
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  CHECK(strcmp(becket_backend_name(loop), "simulator") == 0);
  becket_simulator *same = NULL;
  EQUAL(becket_sim_of(loop, &same), 0);
  CHECK(same == sim);
  EQUAL(now(), SECOND);
}

static void count(becket_loop *it, const becket_event *event, void *user) {
  (void)it;
  uint32_t *flags = user;
  *flags = event->flags;
}

static void scripted_readiness(void) {
  begin(1);
  int fd = becket_sim_scripted(sim);
  CHECK(fd > 0x3fffffff);
  uint32_t told = 0, flags = 1;
  becket_handle handle;
  EQUAL(becket_io_add(loop, fd, BECKET_READABLE, count, &told, &handle), 0);
  EQUAL(becket_sim_set_ready(sim, fd, 5 * SECOND, BECKET_READABLE | BECKET_HANGUP), 0);
  EQUAL(becket_sim_ready(sim, fd, &flags), 0);
  EQUAL(flags, 0);
  EQUAL(becket_turn(loop, BECKET_FOREVER), 1);
  EQUAL(told, BECKET_READABLE | BECKET_HANGUP);
  EQUAL(now(), 5 * SECOND);
  EQUAL(becket_now(loop), 5 * SECOND);
  EQUAL(becket_sim_set_ready(sim, fd, 0, 0), 0);
  EQUAL(becket_turn(loop, BECKET_FOREVER), -EDEADLK);
  EQUAL(becket_sim_advance(sim, SECOND), 0);
  EQUAL(becket_turn(loop, 0), 0);
  EQUAL(becket_now(loop), 6 * SECOND);
  EQUAL(becket_clock_advance(loop, SECOND), 0);
  EQUAL(now(), 7 * SECOND);
  EQUAL(becket_sim_jump(sim, UINT64_MAX - 1), 0);
  EQUAL(becket_sim_jump(sim, 1), -EINVAL);
  EQUAL(becket_io_close(loop, handle), 0);
  EQUAL(becket_sim_close(sim, fd), -EBADF);
  EQUAL(becket_loop_close(loop), 0);
}

static void connections(void) {
  begin(2);
  int fds[2], listener = becket_sim_socket(sim), client = becket_sim_socket(sim), error = 1;
  char buffer[8];
  EQUAL(becket_sim_listen(sim, listener, 4), 0);
  EQUAL(becket_sim_connect(sim, client, listener), -EINPROGRESS);
  EQUAL(becket_sim_accept(sim, listener), -EAGAIN);
  EQUAL(becket_poll(loop, (int64_t)MILLISECOND), 0);
  EQUAL(becket_sim_error(sim, client, &error), 0);
  EQUAL(error, 0);
  int server = becket_sim_accept(sim, listener);
  CHECK(server > client);
  EQUAL(becket_sim_write(sim, client, "hello", 5), 5);
  EQUAL(becket_sim_read(sim, server, buffer, 4), 4);
  CHECK(memcmp(buffer, "hell", 4) == 0);
  EQUAL(becket_sim_read(sim, server, buffer, sizeof buffer), 1);
  EQUAL(becket_sim_read(sim, server, buffer, sizeof buffer), -EAGAIN);
  EQUAL(becket_sim_set_room(sim, server, 2), 0);
  EQUAL(becket_sim_write(sim, client, "hello", 5), 2);
  EQUAL(becket_sim_shutdown(sim, client), 0);
  EQUAL(becket_sim_write(sim, client, "x", 1), -EPIPE);
  EQUAL(becket_sim_reset(sim, server, 0), 0);
  EQUAL(becket_sim_read(sim, client, buffer, sizeof buffer), -ECONNRESET);
  EQUAL(becket_sim_dup(sim, client), server + 1);
  EQUAL(becket_sim_pair(sim, fds), 0);
  EQUAL(becket_sim_open_fds(sim), 6);
  EQUAL(becket_sim_pair(sim, fds), -EMFILE);
  EQUAL(becket_sim_socket(sim), -EMFILE);
  EQUAL(becket_sim_close(sim, fds[0]), 0);
  int file = becket_sim_open(sim, 3);
  becket_handle handle;
  EQUAL(becket_io_add(loop, file, BECKET_READABLE, NULL, NULL, &handle), -EPERM);
  EQUAL(becket_sim_read(sim, file, buffer, sizeof buffer), 3);
  EQUAL(becket_sim_close(sim, file), 0);
  EQUAL(becket_io_add(loop, becket_sim_open_null(sim), BECKET_READABLE, NULL, NULL, &handle), 0);
  EQUAL(becket_sim_reset(sim, fds[1], 5), 0);
  EQUAL(becket_loop_close(loop), 0);
}

/* A fault can be had of each call, at random and the n-th time; its number is counted. */
static void faults(void) {
  begin(3);
  int fds[2];
  uint64_t failed = 0, number = 9;
  EQUAL(becket_sim_pair(sim, fds), 0);
  EQUAL(becket_sim_fault(sim, BECKET_SIM_WRITE, EPIPE, 1000000), 0);
  EQUAL(becket_sim_write(sim, fds[0], "x", 1), -EPIPE);
  EQUAL(becket_sim_fault(sim, BECKET_SIM_WRITE, -EPIPE, 0), 0);
  EQUAL(becket_sim_fail_nth(sim, BECKET_SIM_READ, EINTR, 2), 0);
  EQUAL(becket_sim_read(sim, fds[1], fds, 0), 0);
  EQUAL(becket_sim_read(sim, fds[1], fds, 0), -EINTR);
  EQUAL(becket_sim_failed(sim, BECKET_SIM_WRITE, &failed), 0);
  EQUAL(failed, 1);
  EQUAL(becket_sim_below(sim, 3, &number), 0);
  CHECK(number < 3);
  EQUAL(becket_sim_quirk(sim, BECKET_SIM_OVERSLEEP, 1000000, SECOND), 0);
  EQUAL(becket_poll(loop, 1), 0);
  CHECK(now() > SECOND + 1 && now() <= 2 * SECOND + 1);
  EQUAL(becket_sim_all_faults(sim, 100000, SECOND), 0);
  EQUAL(becket_sim_all_faults(sim, 0, 0), 0);
  int fd = becket_sim_random(sim, MILLISECOND);
  uint32_t told = 0;
  becket_handle handle;
  EQUAL(becket_io_add(loop, fd, BECKET_READABLE, count, &told, &handle), 0);
  EQUAL(becket_turn(loop, BECKET_FOREVER), 1);
  CHECK(told != 0);
  for (int i = 0; i < 3; i++) EQUAL(becket_sim_reset(sim, fds[0], 1), 0);
  EQUAL(becket_sim_reset(sim, fds[0], 1), -ENOSPC);
  EQUAL(becket_sim_random(sim, 1), -ENOSPC);
  EQUAL(becket_loop_close(loop), 0);
}

static BECKET_MEMORY(larger, 2, 0, 4);

/* What an operation came to. */
static void completed(becket_loop *it, const becket_event *event, void *user) {
  (void)it;
  CHECK(event->kind == BECKET_KIND_OPERATION);
  int64_t *value = user;
  *value = event->value;
}

/* Operations on simulated descriptors, those that Rust has not too. */
static void operations(void) {
  for (uint64_t seed = 0; seed < 50; seed++) {
    EQUAL(becket_simulator_init(&sim, &world, seed), 0);
    EQUAL(becket_sim_set_ring(sim, seed % 2 == 0), 0);
    becket_config config = {.size = sizeof config, .simulator = sim};
    EQUAL(becket_loop_init(&loop, &larger, &config), 0);
    CHECK(strcmp(becket_files_name(loop), "simulator") == 0);
    EQUAL(becket_sim_set_latency(sim, SECOND), 0);
    int listener = becket_sim_socket(sim), client = becket_sim_socket(sim);
    EQUAL(becket_sim_listen(sim, listener, 1), 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)listener)}, from;
    socklen_t length = sizeof from;
    int64_t accepted = -1, connected = -1, sent = -1, received = -1;
    EQUAL(becket_op_accept(loop, listener, (struct sockaddr *)&from, &length, 0, completed, &accepted, NULL), 0);
    EQUAL(becket_op_connect(loop, client, (struct sockaddr *)&to, sizeof to, completed, &connected, NULL), 0);
    EQUAL(becket_run(loop), 0);
    CHECK(accepted > listener && connected == 0 && length == 0);

    char one[3] = "ab", two[4] = "cde", back[2][4] = {"", ""};
    struct iovec out[] = {{one, 2}, {NULL, 0}, {two, 3}}, in[] = {{back[0], 1}, {back[1], 4}};
    struct msghdr message = {.msg_iov = out, .msg_iovlen = 3}, answer = {.msg_iov = in, .msg_iovlen = 2, .msg_name = &from,
                                                                        .msg_namelen = sizeof from};
    EQUAL(becket_op_recvmsg(loop, (int)accepted, &answer, 0, completed, &received, NULL), 0);
    EQUAL(becket_op_sendmsg(loop, client, &message, 0, completed, &sent, NULL), 0);
    EQUAL(becket_run(loop), 0);
    CHECK(sent == 5 && received == 5 && answer.msg_namelen == 0);
    CHECK(back[0][0] == 'a' && memcmp(back[1], "bcde", 4) == 0);
    EQUAL(becket_op_recv(loop, client, back, 1, MSG_PEEK, completed, &received, NULL), 0);
    EQUAL(becket_run(loop), 0);
    EQUAL(received, -ENOTSUP);

    becket_handle handle;
    EQUAL(becket_op_recv(loop, client, back, 1, 0, completed, &received, &handle), 0);
    EQUAL(becket_op_cancel(loop, handle), 0);
    EQUAL(becket_loop_close(loop), -EBUSY);
    EQUAL(becket_loop_drain(loop, (int64_t)(10 * SECOND)), 0);
    EQUAL(received, -ECANCELED);
    EQUAL(becket_loop_close(loop), 0);
  }
}

/* Every function with a simulator that is none, every output that is NULL, every number out of its range. */
static void misuse(void) {
  static uint64_t garbage[BECKET_SIMULATOR_SIZE(1, 1) / 8];
  static uint64_t moved[BECKET_SIMULATOR_SIZE(6, 4) / 8];
  begin(4);
  memcpy(moved, world.block, sizeof moved);
  struct {
    becket_simulator *it;
    int code;
  } none[] = {{NULL, -EINVAL}, {(becket_simulator *)((char *)garbage + 1), -EINVAL}, {(becket_simulator *)garbage, -EBADF},
              {(becket_simulator *)moved, -EBADF}};
  for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
    becket_simulator *it = none[i].it;
    int code = none[i].code, fds[2] = {7, 8}, error = 9;
    uint64_t number = 10;
    uint32_t flags = 11;
    char byte = 12;
    EQUAL(becket_sim_now(it, &number), code);
    EQUAL(becket_sim_advance(it, 1), code);
    EQUAL(becket_sim_jump(it, 1), code);
    EQUAL(becket_sim_fault(it, BECKET_SIM_READ, EINTR, 1), code);
    EQUAL(becket_sim_fail_nth(it, BECKET_SIM_READ, EINTR, 1), code);
    EQUAL(becket_sim_quirk(it, BECKET_SIM_PARTIAL, 1, 1), code);
    EQUAL(becket_sim_all_faults(it, 1, 1), code);
    EQUAL(becket_sim_set_ring(it, 1), code);
    EQUAL(becket_sim_set_latency(it, 1), code);
    EQUAL(becket_sim_set_file_size(it, 1), code);
    EQUAL(becket_sim_failed(it, BECKET_SIM_READ, &number), code);
    EQUAL(becket_sim_below(it, 1, &number), code);
    EQUAL(becket_sim_scripted(it), code);
    EQUAL(becket_sim_random(it, 1), code);
    EQUAL(becket_sim_open(it, 1), code);
    EQUAL(becket_sim_open_null(it), code);
    EQUAL(becket_sim_pair(it, fds), code);
    EQUAL(becket_sim_socket(it), code);
    EQUAL(becket_sim_listen(it, 1, 1), code);
    EQUAL(becket_sim_connect(it, 1, 1), code);
    EQUAL(becket_sim_accept(it, 1), code);
    EQUAL(becket_sim_read(it, 1, &byte, 1), code);
    EQUAL(becket_sim_write(it, 1, &byte, 1), code);
    EQUAL(becket_sim_shutdown(it, 1), code);
    EQUAL(becket_sim_reset(it, 1, 0), code);
    EQUAL(becket_sim_set_room(it, 1, 1), code);
    EQUAL(becket_sim_error(it, 1, &error), code);
    EQUAL(becket_sim_dup(it, 1), code);
    EQUAL(becket_sim_close(it, 1), code);
    EQUAL(becket_sim_open_fds(it), code);
    EQUAL(becket_sim_ready(it, 1, &flags), code);
    EQUAL(becket_sim_set_ready(it, 1, 0, 1), code);
    CHECK(fds[0] == 7 && fds[1] == 8 && error == 9 && number == 10 && flags == 11 && byte == 12);
    becket_config config = {.size = sizeof config, .simulator = it};
    becket_loop *other = NULL;
    if (it != NULL) EQUAL(becket_loop_init(&other, &memory, &config), code);
    CHECK(other == NULL);
  }

  int fd = becket_sim_scripted(sim), other = becket_sim_socket(sim);
  EQUAL(becket_sim_of(loop, NULL), -EINVAL);
  EQUAL(becket_sim_now(sim, NULL), -EINVAL);
  EQUAL(becket_sim_failed(sim, BECKET_SIM_READ, NULL), -EINVAL);
  EQUAL(becket_sim_below(sim, 1, NULL), -EINVAL);
  EQUAL(becket_sim_pair(sim, NULL), -EINVAL);
  EQUAL(becket_sim_error(sim, other, NULL), -EINVAL);
  EQUAL(becket_sim_ready(sim, fd, NULL), -EINVAL);
  EQUAL(becket_sim_read(sim, fd, NULL, 1), -EINVAL);
  EQUAL(becket_sim_write(sim, fd, NULL, 1), -EINVAL);
  EQUAL(becket_sim_read(sim, other, NULL, 0), 0);
  EQUAL(becket_sim_fault(sim, 15, EINTR, 1), -EINVAL);
  EQUAL(becket_sim_fault(sim, BECKET_SIM_READ, EPIPE, 1), -EINVAL);
  EQUAL(becket_sim_fault(sim, BECKET_SIM_READ, 0, 1), -EINVAL);
  EQUAL(becket_sim_fault(sim, BECKET_SIM_READ, INT32_MIN, 1), -EINVAL);
  EQUAL(becket_sim_fault(sim, BECKET_SIM_READ, EINTR, 1000001), -EINVAL);
  EQUAL(becket_sim_fail_nth(sim, 15, EINTR, 1), -EINVAL);
  EQUAL(becket_sim_fail_nth(sim, BECKET_SIM_CLOSE, EPIPE, 1), -EINVAL);
  EQUAL(becket_sim_quirk(sim, 5, 1, 1), -EINVAL);
  EQUAL(becket_sim_quirk(sim, BECKET_SIM_PARTIAL, 1000001, 1), -EINVAL);
  EQUAL(becket_sim_all_faults(sim, 142858, 1), -EINVAL);
  EQUAL(becket_sim_listen(sim, fd, 1), -EINVAL);
  EQUAL(becket_sim_connect(sim, fd, other), -EINVAL);
  EQUAL(becket_sim_accept(sim, other), -EINVAL);
  EQUAL(becket_sim_shutdown(sim, other), -ENOTCONN);
  EQUAL(becket_sim_shutdown(sim, fd), -EINVAL);
  EQUAL(becket_sim_reset(sim, fd, 0), -EINVAL);
  EQUAL(becket_sim_set_room(sim, other, 0), -EINVAL);
  EQUAL(becket_sim_set_room(sim, other, BECKET_SIM_STREAM_BYTES + 1), -EINVAL);
  EQUAL(becket_sim_set_ready(sim, other, 0, BECKET_READABLE), -EINVAL);
  EQUAL(becket_sim_set_ready(sim, fd, 0, BECKET_TIMEOUT), -EINVAL);
  EQUAL(becket_sim_set_ready(sim, fd, 0, UINT32_MAX), -EINVAL);
  for (int bad = -2; bad < 3; bad++) EQUAL(becket_sim_close(sim, bad), -EBADF);
  EQUAL(becket_sim_close(sim, fd + 6), -EBADF);
  EQUAL(becket_sim_close(sim, INT32_MAX), -EBADF);
  EQUAL(becket_sim_close(sim, INT32_MIN), -EBADF);

  becket_simulator *it = NULL;
  becket_simulator_memory bad = world;
  EQUAL(becket_simulator_init(NULL, &world, 1), -EINVAL);
  EQUAL(becket_simulator_init(&it, NULL, 1), -EINVAL);
  bad.size = 8;
  EQUAL(becket_simulator_init(&it, &bad, 1), -EINVAL);
  bad = world, bad.block = NULL;
  EQUAL(becket_simulator_init(&it, &bad, 1), -EINVAL);
  bad = world, bad.block = (char *)bad.block + 4;
  EQUAL(becket_simulator_init(&it, &bad, 1), -EINVAL);
  bad = world, bad.block_size -= 1;
  EQUAL(becket_simulator_init(&it, &bad, 1), -ENOBUFS);
  bad = world, bad.fds = (1u << 20) + 1;
  EQUAL(becket_simulator_init(&it, &bad, 1), -EINVAL);
  CHECK(it == NULL);
  becket_config config = {.size = sizeof config, .backend = BECKET_BACKEND_SIMULATOR};
  EQUAL(becket_loop_close(loop), 0);
  EQUAL(becket_loop_init(&loop, &memory, &config), -EINVAL);
  config.backend = BECKET_BACKEND_POLL;
  config.simulator = sim;
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  EQUAL(becket_sim_of(loop, &it), -ENOTSUP);
  EQUAL(becket_loop_close(loop), 0);
}

/* Made anew under a loop, which is not served any more: its time goes on, and does not begin again. */
static void made_anew(void) {
  begin(4);
  for (int round = 0; round < 2; round++) {
    EQUAL(becket_prepare(loop, BECKET_FOREVER), 0);
    EQUAL(becket_sim_jump(sim, UINT64_MAX - 1), 0);
    EQUAL(becket_collect(loop), 0);
    EQUAL(becket_now(loop), UINT64_MAX - 1);
    EQUAL(becket_simulator_init(&sim, &world, 4), 0);
    EQUAL(becket_turn(loop, 0), -ESTALE);
    EQUAL(becket_now(loop), UINT64_MAX - 1);
  }
  EQUAL(statistics_of(loop).waiting_ns, UINT64_MAX - 1 - SECOND);
  EQUAL(becket_loop_close(loop), 0);
}

/* A loop of the simulator that was in the memory before is not taken for the first one of the new one. */
static void made_anew_under_an_operation(void) {
  EQUAL(becket_simulator_init(&sim, &world, 4), 0);
  becket_config config = {.size = sizeof config, .simulator = sim};
  EQUAL(becket_loop_init(&loop, &larger, &config), 0);
  int fds[2];
  char byte;
  int64_t value = 1, other = 1;
  EQUAL(becket_sim_pair(sim, fds), 0);
  EQUAL(becket_op_recv(loop, fds[0], &byte, 1, 0, completed, &value, NULL), 0);
  EQUAL(becket_poll(loop, 0), 0);

  EQUAL(becket_simulator_init(&sim, &world, 4), 0);
  static BECKET_MEMORY(second, 1, 0, 1);
  becket_loop *served;
  EQUAL(becket_loop_init(&served, &second, &config), 0);
  EQUAL(becket_sim_pair(sim, fds), 0);
  EQUAL(becket_op_recv(served, fds[0], &byte, 1, 0, completed, &other, NULL), 0);
  EQUAL(becket_loop_drain(loop, BECKET_FOREVER), 0);
  EQUAL(value, -ECANCELED);
  EQUAL(becket_loop_close(loop), 0);

  EQUAL(becket_sim_write(sim, fds[1], "x", 1), 1);
  EQUAL(becket_run(served), 0);
  EQUAL(other, 1);
  EQUAL(becket_loop_close(served), 0);
}

int main(void) {
  scripted_readiness();
  connections();
  faults();
  operations();
  misuse();
  made_anew();
  made_anew_under_an_operation();
  return 0;
}
