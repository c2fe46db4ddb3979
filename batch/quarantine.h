/* Bad rows kept for whoever repairs them: one line each,
 *
 *     FILE <tab> LINE <tab> REASON <tab> the row as it was
 *
 * with its own tabs as they are. Control bytes other than those, DEL and the backslash are written \xHH and \\, so that a
 * row stays one line and `printf '%b'` gives its bytes back.
 *
 * The file takes the place of an older one in one step, when reading has ended, whether the run then goes on or fails: a
 * run that had no bad rows leaves an empty file, one that was killed leaves the older one.
 */
#ifndef EMBSUM_BATCH_QUARANTINE_H
#define EMBSUM_BATCH_QUARANTINE_H

#include "core/file.h"

struct quarantine {
    struct file_replacement file;
    size_t rows;
};

/* ERR_INVALID where the path is there and is no regular file: /dev/null shall not be replaced. */
int quarantine_open(struct quarantine *quarantine, const char *path, struct err *err);

/* A failure to write shows in quarantine_close. */
void quarantine_add(struct quarantine *quarantine, const char *path, size_t line, const char *reason,
    const char *row, size_t len);

/* Put the file in its place. */
int quarantine_close(struct quarantine *quarantine, struct err *err);

#endif
