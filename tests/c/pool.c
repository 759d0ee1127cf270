/* Pools: each block once, every wrong pointer told. */
#include "check.h"

#define COUNT 5

static BECKET_POOL(pool, COUNT, 24);
static BECKET_POOL(other, 1, 24);

int main(void) {
  unsigned char *blocks[COUNT];
  for (int round = 0; round < 3; round++) {
    EQUAL(becket_pool_left(&pool), COUNT);
    for (int i = 0; i < COUNT; i++) {
      blocks[i] = becket_pool_get(&pool);
      CHECK(blocks[i] != NULL);
      EQUAL((uintptr_t)blocks[i] % 16, 0);
      memset(blocks[i], i + 1, 24);
      EQUAL(becket_pool_left(&pool), COUNT - 1 - i);
    }
    CHECK(becket_pool_get(&pool) == NULL);
    EQUAL(becket_pool_left(&pool), 0);
    for (int i = 0; i < COUNT; i++) {
      for (int at = 0; at < 24; at++) EQUAL(blocks[i][at], i + 1); /* none overlaps another */
    }
    for (int i = 0; i < COUNT; i++) {
      int which = (i * 2 + round) % COUNT;
      EQUAL(becket_pool_put(&pool, blocks[which]), 0);
      EQUAL(becket_pool_put(&pool, blocks[which]), -ESTALE);
      EQUAL(becket_pool_left(&pool), i + 1);
    }
  }

  unsigned char *block = becket_pool_get(&pool);
  int local = 0;
  EQUAL(becket_pool_put(&pool, NULL), -EINVAL);
  EQUAL(becket_pool_put(&pool, block + 1), -EINVAL);
  EQUAL(becket_pool_put(&pool, &local), -EINVAL);
  EQUAL(becket_pool_put(&pool, becket_pool_get(&other)), -EINVAL);
  EQUAL(becket_pool_put(&pool, (unsigned char *)pool.blocks + COUNT * pool.block_bytes), -EINVAL);
  EQUAL(becket_pool_left(&pool), COUNT - 1);
  CHECK(becket_pool_get(&other) == NULL);

  /* What is no pool. */
  becket_pool bad = pool;
  CHECK(becket_pool_get(NULL) == NULL);
  EQUAL(becket_pool_put(NULL, block), -EINVAL);
  EQUAL(becket_pool_left(NULL), -EINVAL);
  bad.size -= 1;
  CHECK(becket_pool_get(&bad) == NULL);
  bad = pool;
  bad.block_bytes = 0;
  EQUAL(becket_pool_put(&bad, block), -EINVAL);
  bad = pool;
  bad.mark = COUNT + 1;
  EQUAL(becket_pool_left(&bad), -EINVAL);
  bad = pool;
  bad.free = bad.mark + 1;
  EQUAL(becket_pool_left(&bad), -EINVAL);
  EQUAL(becket_pool_put(&pool, block), 0);
  return 0;
}
