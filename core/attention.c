#include "core/attention.h"

#include "core/linear_int.h"

#include <stdio.h>
#include <string.h>

bool attention_kernel_runs(size_t i, bool bf16)
{
    const struct linear_kernel *kernel = linear_kernel_at(i);
    return kernel && kernel->attend[bf16] && kernel->runs();
}

int attention_kernel(const struct linear_kernel **out, bool bf16, const char *name, struct err *err)
{
    char list[128] = "";
    const struct linear_kernel *chosen = NULL;
    for (size_t i = 0; linear_kernel_at(i); i++) {
        if (!attention_kernel_runs(i, bf16))
            continue;
        const size_t len = strlen(list);
        snprintf(list + len, sizeof list - len, "%s%s", len ? ", " : "", linear_kernel_name(i));
        if (!name || strcmp(name, linear_kernel_name(i)) == 0)
            chosen = linear_kernel_at(i);
    }
    if (!chosen)
        return err_set(
            err, ERR_INVALID, "no kernel \"%s\" for attention on this processor, which runs %s", name, list);
    *out = chosen;
    return 0;
}

size_t attention_scratch(size_t longest, size_t d_kv)
{
    const size_t rows = ATTENTION_ROWS, keys = attention_pad(longest), lanes = attention_pad(d_kv);
    const size_t floats = keys * attention_pad(d_kv)          /* K */
                          + lanes * keys                      /* V */
                          + rows * (keys + LINEAR_LINE / 4)   /* weights */
                          + rows * (lanes + LINEAR_LINE / 4); /* queries */
    return floats * sizeof(float);
}

void attention_run(
    const struct linear_kernel *kernel, bool bf16, const struct attention *attention, void *scratch)
{
    kernel->attend[bf16](attention, scratch);
}
