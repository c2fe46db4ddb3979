/* Which answers came: each different answer to each request once, with how often it came and when first and last. Whoever
 * knows what is right looks at these few afterwards, so that millions of answers are checked without slowing down who asks. */
#ifndef EMBSUM_TESTS_LOAD_ANSWERS_H
#define EMBSUM_TESTS_LOAD_ANSWERS_H

#include "core/err.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWERS_MOST = 1 << 16 };

struct answer {
    char *body;
    size_t len, request;
    int status;
    uint64_t count;
    int64_t first, last; /* nanoseconds of CLOCK_MONOTONIC */
};

struct answers {
    struct answer *slots; /* 2 * ANSWERS_MOST, open addressing by FNV-1a */
    size_t count;
    uint64_t left_out; /* there were too many different ones */
};

static inline int answers_init(struct answers *answers, struct err *err)
{
    answers->slots = calloc(2 * ANSWERS_MOST, sizeof *answers->slots);
    return answers->slots ? 0 : err_set(err, ERR_NOMEM, "no memory for the answers");
}

static inline void answers_done(struct answers *answers)
{
    for (size_t i = 0; answers->slots && i < 2 * ANSWERS_MOST; i++)
        free(answers->slots[i].body);
    free(answers->slots);
}

static inline void answers_add(
    struct answers *answers, size_t request, int status, const char *body, size_t len, int64_t now_ns)
{
    uint64_t hash = UINT64_C(14695981039346656037) + (uint64_t)status + (uint64_t)request * 1000;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)body[i]) * UINT64_C(1099511628211);
    struct answer *slot = &answers->slots[hash % (2 * ANSWERS_MOST)];
    while (slot->body && (slot->request != request || slot->status != status || slot->len != len ||
                             memcmp(slot->body, body, len) != 0))
        if (++slot == answers->slots + 2 * ANSWERS_MOST)
            slot = answers->slots;
    if (!slot->body) {
        char *copy = answers->count < ANSWERS_MOST ? malloc(len + 1) : NULL;
        if (!copy) {
            answers->left_out++;
            return;
        }
        *slot = (struct answer){.body = memcpy(copy, body, len),
            .len = len,
            .request = request,
            .status = status,
            .first = now_ns};
        answers->count++;
    }
    slot->count++;
    slot->last = now_ns;
}

/* One JSON object a line; bodies are JSON themselves, or null where they are empty. */
static inline int answers_write(const struct answers *answers, const char *path, struct err *err)
{
    FILE *file = fopen(path, "w");
    if (!file)
        return err_errno(err, "open %s", path);
    for (size_t i = 0; i < 2 * ANSWERS_MOST; i++) {
        const struct answer *a = &answers->slots[i];
        if (a->body)
            fprintf(file,
                "{\"request\": %zu, \"status\": %d, \"count\": %llu, \"first_ns\": %lld, \"last_ns\": %lld, "
                "\"body\": %.*s}\n",
                a->request, a->status, (unsigned long long)a->count, (long long)a->first, (long long)a->last,
                a->len ? (int)a->len : 4, a->len ? a->body : "null");
    }
    const int failed = ferror(file) | fclose(file);
    return failed || answers->left_out ? err_set(err, ERR_IO, "not all answers are in %s", path) : 0;
}

#endif
