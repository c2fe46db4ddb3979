/* Files read whole and replaced whole. */
#ifndef EMBSUM_CORE_FILE_H
#define EMBSUM_CORE_FILE_H

#include "core/err.h"

#include <stddef.h>
#include <stdio.h>

/* Read a file of at most max bytes into a malloc'ed buffer with a NUL behind its end. */
int file_read(char **data, size_t *len, const char *path, size_t max, struct err *err);

/* *fd = a file to be read as often as wanted, at its beginning; close() it. What is no regular file (a pipe, say) is copied
 * to a temporary one first, without a name, in TMPDIR (/tmp unless set). */
int file_open_twice(int *fd, const char *path, struct err *err);

/* A file being written beside its place, as PATH.unfinished-XXXXXX: it takes the place in one step, with all its bytes on
 * the disk, or never. Close it with exactly one of the two. What writers in the same folder left when they were killed is
 * removed at the beginning, so that a job which is killed again and again does not fill the disk. */
struct file_replacement {
    FILE *stream;
    char path[4096], temporary[4096 + 32];
};
int file_replace_begin(struct file_replacement *file, const char *path, struct err *err);
int file_replace_commit(
    struct file_replacement *file, struct err *err); /* flush, fsync, rename, fsync folder */
void file_replace_abort(struct file_replacement *file);

/* Copy a file of at most 1 GiB; the target is replaced in one step. */
int file_copy(const char *from, const char *to, struct err *err);

/* dir/name in out; ERR_INVALID if it is too long. */
int file_path(char out[4096], const char *dir, const char *name, struct err *err);

/* Let go of what is mapped of a file and has been touched: pages of the page cache, which count as this process's memory as long
 * as they are mapped, and are mapped again when they are read again. For mappings that are only read. Linux; elsewhere nothing. */
void file_unmap_touched(int fd);

/* Make a folder unless it is there (its parent must be). */
int file_make_dir(const char *path, struct err *err);

#endif
