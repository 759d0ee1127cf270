/* httpd_blocks.h: the blocks of a becket_pool for any number of clients, of which each holds at most one.
 *
 * A client that finds no block free waits in a FIFO. One that has a block and cannot get rid of what is in it says that it
 * is stalled: as soon as another client needs one, the longest stalled is asked to give its block back, as many as there are
 * that wait. So slow clients never keep the others waiting, and what a slow one loses it has to fetch again.
 *
 *                     take: a block is free
 *          NONE ────────────────────────────────────────▶ HOLDING ──stall──▶ STALLED
 *         ▲  ▲ │ take: none                              ▲ │    ▲              │  │
 *         │  │ └──▶ WAITING ──────another gives──────────┘ │    └────resume────┘  │ recall: another waits
 *         │  └───────────────────give──────────────────────┘                      ▼
 *         └────────────────────────────────give─────────────────────────────── RECALLED
 *
 * Everything is O(1). Nothing here knows what the clients do: who gets a block while it waits, and who is to give one back,
 * is told to the caller, who tells them. */
#ifndef HTTPD_BLOCKS_H
#define HTTPD_BLOCKS_H

#include <becket.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum block_state { BLOCK_NONE, BLOCK_WAITING, BLOCK_HOLDING, BLOCK_STALLED, BLOCK_RECALLED };

/* All zero: holds nothing, waits for nothing. Part of the client's own structure. */
struct block_client {
  struct block_client *next, *previous; /* in the list of those that wait, or of those that are stalled */
  void *block;                          /* HOLDING, STALLED, RECALLED */
  enum block_state state;
};

struct block_list {
  struct block_client *first, *last;
};

struct blocks {
  becket_pool *pool; /* those that nobody holds */
  uint32_t waiting_count, recalled_count;
  struct block_list waiting, stalled;
  uint64_t taken_away; /* blocks, from stalled clients, since the start */
};

static inline void block_list_push(struct block_list *list, struct block_client *client) {
  client->previous = list->last;
  client->next = NULL;
  if (list->last != NULL)
    list->last->next = client;
  else
    list->first = client;
  list->last = client;
}

static inline void block_list_remove(struct block_list *list, struct block_client *client) {
  if (client->previous != NULL)
    client->previous->next = client->next;
  else
    list->first = client->next;
  if (client->next != NULL)
    client->next->previous = client->previous;
  else
    list->last = client->previous;
  client->next = client->previous = NULL;
}

/* A client needs a block. True: it has one. False: it waits for one, and the call that makes another client give its block
 * away returns it. */
static inline bool block_take(struct blocks *blocks, struct block_client *client) {
  if (client->state == BLOCK_HOLDING) return true;
  if (client->state == BLOCK_WAITING) return false;
  client->block = becket_pool_get(blocks->pool);
  client->state = client->block != NULL ? BLOCK_HOLDING : BLOCK_WAITING;
  if (client->block != NULL) return true;
  block_list_push(&blocks->waiting, client);
  blocks->waiting_count++;
  return false;
}

/* A client goes: it holds nothing and waits for nothing after this. Returns the one that got its block, or NULL. */
static inline struct block_client *block_give(struct blocks *blocks, struct block_client *client) {
  if (client->state == BLOCK_STALLED) block_list_remove(&blocks->stalled, client);
  if (client->state == BLOCK_RECALLED) blocks->recalled_count--;
  if (client->state == BLOCK_WAITING) {
    block_list_remove(&blocks->waiting, client);
    blocks->waiting_count--;
  }
  void *block = client->block;
  client->block = NULL;
  client->state = BLOCK_NONE;
  if (block == NULL) return NULL;
  struct block_client *next = blocks->waiting.first;
  if (next == NULL) {
    becket_pool_put(blocks->pool, block);
    return NULL;
  }
  block_list_remove(&blocks->waiting, next);
  blocks->waiting_count--;
  next->block = block;
  next->state = BLOCK_HOLDING;
  return next;
}

/* A client that holds a block cannot go on now. */
static inline void block_stall(struct blocks *blocks, struct block_client *client) {
  if (client->state != BLOCK_HOLDING) return;
  block_list_push(&blocks->stalled, client);
  client->state = BLOCK_STALLED;
}

/* It can go on, if it was not recalled. */
static inline void block_resume(struct blocks *blocks, struct block_client *client) {
  if (client->state != BLOCK_STALLED) return;
  block_list_remove(&blocks->stalled, client);
  client->state = BLOCK_HOLDING;
}

/* After one has begun to wait or has stalled: which client is to give its block, as soon as it can? NULL: none. */
static inline struct block_client *block_recall(struct blocks *blocks) {
  struct block_client *client = blocks->stalled.first;
  if (client == NULL || blocks->recalled_count >= blocks->waiting_count) return NULL;
  block_list_remove(&blocks->stalled, client);
  client->state = BLOCK_RECALLED;
  blocks->recalled_count++;
  blocks->taken_away++;
  return client;
}

#endif
