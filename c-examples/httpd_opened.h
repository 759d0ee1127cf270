/* httpd_opened.h: files that were opened a moment ago, so that one that many ask for is not opened for each of them.
 *
 * A file is looked at again (fstat(2)) at each new time, and whatever happens to it or to its own name meanwhile changes its ctime
 * or the number of its names: then it is opened anew. (So one that has just changed is not kept: with a clock that ticks, another
 * change would look the same.) What changes above it, a folder or a symbolic link on the way, is seen when OPENED_TIME is over; and
 * that long again, or as long as somebody is sent it, a file that was deleted may keep its place on the disk. */
#ifndef HTTPD_OPENED_H
#define HTTPD_OPENED_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define OPENED_MAX      64
#define OPENED_WAYS     4   /* places that a path can have */
#define OPENED_PATH_MAX 120 /* with its NUL; files of longer paths are not kept */
#define OPENED_TIME     UINT64_C(1000000000)
#define OPENED_AGE      50000000 /* since the last change, at least: more than a tick of the clock */

struct opened {
  int fd; /* 0: none, in static memory */
  uint32_t users;
  uint64_t until, looked_at;
  struct stat stat;
  char path[OPENED_PATH_MAX];
};

static struct opened opened_files[OPENED_MAX];
static uint32_t opened_count;

/* The first of its places. (FNV-1a.) */
static struct opened *opened_place(const char *path) {
  uint32_t hash = 2166136261;
  while (*path != '\0') hash = (hash ^ (unsigned char)*path++) * 16777619;
  return &opened_files[(hash ^ hash >> 16) % (OPENED_MAX / OPENED_WAYS) * OPENED_WAYS];
}

static bool opened_is_same(const struct stat *before, const struct stat *now) {
  return before->st_ctim.tv_sec == now->st_ctim.tv_sec && before->st_ctim.tv_nsec == now->st_ctim.tv_nsec &&
         before->st_nlink == now->st_nlink;
}

/* The file at a path, if it was opened a moment ago and is what it was; NULL: it has to be opened. One system call at most. */
static struct opened *opened_find(const char *path, uint64_t now) {
  struct opened *file = opened_place(path), *end = file + OPENED_WAYS;
  while (file < end && (file->fd == 0 || now >= file->until || strcmp(file->path, path) != 0)) file++;
  if (file == end) return NULL;
  if (file->looked_at == now) return file;
  struct stat before = file->stat;
  file->looked_at = now;
  if (fstat(file->fd, &file->stat) == 0 && opened_is_same(&before, &file->stat)) return file;
  file->until = 0;
  return NULL;
}

/* Whether any change from now on has another ctime. There are file systems that count whole seconds. */
static bool opened_is_old(const struct stat *stat) {
  struct timespec now;
  if (clock_gettime(CLOCK_REALTIME, &now) < 0 || stat->st_ctim.tv_sec > now.tv_sec) return false;
  if (now.tv_sec - stat->st_ctim.tv_sec > 1) return true;
  long age = (now.tv_sec == stat->st_ctim.tv_sec ? 0 : 1000000000) + now.tv_nsec - stat->st_ctim.tv_nsec;
  return stat->st_ctim.tv_nsec != 0 && age > OPENED_AGE;
}

/* Keeps a file that was opened now. NULL: it is not. */
static struct opened *opened_keep(const char *path, int fd, const struct stat *stat, uint64_t now) {
  struct opened *file = opened_place(path), *end = file + OPENED_WAYS, *place = NULL;
  for (; file < end; file++) /* a free one, or the one that was opened first */
    if (file->users == 0 && (place == NULL || file->fd == 0 || (place->fd != 0 && file->until < place->until))) place = file;
  if (place == NULL || strlen(path) >= OPENED_PATH_MAX || fd == 0 || stat->st_nlink == 0 || !opened_is_old(stat)) return NULL;
  if (place->fd != 0)
    close(place->fd);
  else
    opened_count++;
  *place = (struct opened){.fd = fd, .until = now + OPENED_TIME, .looked_at = now, .stat = *stat};
  strcpy(place->path, path);
  return place;
}

/* Closes those that nobody uses and whose time is over: how many. O(OPENED_MAX) */
static uint32_t opened_end(uint64_t now) {
  uint32_t before = opened_count;
  for (struct opened *file = opened_files; file < opened_files + OPENED_MAX; file++) {
    if (file->fd == 0 || file->users > 0 || now < file->until) continue;
    close(file->fd);
    file->fd = 0;
    opened_count--;
  }
  return before - opened_count;
}

#endif
