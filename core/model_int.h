/* Shared by core/model.c and core/model_file.c alone. */
#ifndef EMBSUM_CORE_MODEL_INT_H
#define EMBSUM_CORE_MODEL_INT_H

#include "core/model.h"

/* A model with its table and pointers, all parameters zero. */
int model_build(struct model **out, const char *config_text, size_t config_len, struct err *err);

#endif
