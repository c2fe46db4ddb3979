/* The secret by which an endpoint knows who pays. It comes from a file or the environment, never from argv. */
#ifndef EMBSUM_BATCH_API_KEY_H
#define EMBSUM_BATCH_API_KEY_H

#include "core/err.h"

#include <stdbool.h>

#define API_KEY_MAX 4096

/* The first line of the file; without one (NULL) EMBSUM_API_KEY, else, where the endpoint is OpenAI's own,
 * OPENAI_API_KEY, which must not go to anybody else; else empty, which means none. A key that no header can hold is
 * ERR_INVALID. *source tells where it is from. No message contains it. */
int api_key_load(char key[API_KEY_MAX], const char **source, const char *path, bool openai, struct err *err);

#endif
