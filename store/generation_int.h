/* What the files of generation.h share. */
#ifndef EMBSUM_STORE_GENERATION_INT_H
#define EMBSUM_STORE_GENERATION_INT_H

#include "store/generation.h"

/* One commit: name becomes live, what was live until now is retired. */
int generation_switch(struct store_link *link, uint64_t token, const char *name, struct err *err);

#endif
