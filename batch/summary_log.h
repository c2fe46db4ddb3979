/* The file of summaries while it grows (DESIGN, "Files"): a line is there whole or not at
 * all, whenever the program dies.
 *
 * One writer at a time holds the file's lock. A line is one write at the end of the file; what a writer left of a line
 * when it was killed is cut off by the next one. Summaries survive a kill as soon as they are appended, and a loss of
 * power once the log is closed.
 */
#ifndef EMBSUM_BATCH_SUMMARY_LOG_H
#define EMBSUM_BATCH_SUMMARY_LOG_H

#include "core/err.h"
#include "core/id.h"

struct summary_log {
    int fd;
    const char *path;
};

/* Make or open it for appending. ERR_BUSY while another run has it; ERR_INVALID for what is no file of summaries. `path`
 * must outlive the log. */
int summary_log_open(struct summary_log *log, const char *path, struct err *err);

/* One line: {"user": "...", "summary": "..."}. A line that could not be written whole is taken back. */
int summary_log_append(struct summary_log *log, const char *user, const char *summary, struct err *err);

/* Bring it to the disk and let it go. */
int summary_log_close(struct summary_log *log, struct err *err);

/* users (zeroed) = those with a summary in the file, without the torn last line that it may have; none where there is no
 * file. Writes nothing and asks for no lock. */
int summary_log_users(struct id_map *users, const char *path, struct err *err);

#endif
