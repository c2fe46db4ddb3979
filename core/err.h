/* How every layer reports a failure.
 *
 * A function returns 0, or a negative enum err_code; given a `struct err *` (which may be NULL) it also
 * leaves a sentence for a person there. Outputs are untouched on failure. Libraries neither log nor exit.
 *
 *     struct err err = ERR_INIT;
 *     if (model_load(&model, dir, &err) < 0)
 *         fprintf(stderr, "%s\n", err.message);
 */
#ifndef EMBSUM_CORE_ERR_H
#define EMBSUM_CORE_ERR_H

#ifdef __cplusplus
extern "C" {
#endif

enum err_code {
    ERR_INVALID = 1, /* input, option or argument that breaks its rules */
    ERR_NOT_FOUND,   /* a file, key or generation that is not there */
    ERR_CORRUPT,     /* bytes that contradict themselves: checksum, magic, owner */
    ERR_UNAVAILABLE, /* a service that did not answer inside its deadline */
    ERR_BUSY,        /* somebody else holds the lock */
    ERR_FENCED,      /* a newer writer has taken over; this one must stop */
    ERR_IO,          /* the operating system refused */
    ERR_NOMEM
};

struct err {
    int code; /* the negative code returned, 0 if nothing failed */
    char message[512];
};

#define ERR_INIT                                                                                             \
    {                                                                                                        \
        0, ""                                                                                                \
    }

/* Store -code and the formatted message; returns -code. */
int err_set(struct err *err, enum err_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with the text of errno behind the message: "open a.txt: No such file or directory". */
int err_errno(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Put a place before the message that is there ("news.tsv:12: "); returns the code that is there. */
int err_place(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "invalid", "not_found", ... for a code of either sign. */
const char *err_name(int code);

#ifdef __cplusplus
}
#endif

#endif
