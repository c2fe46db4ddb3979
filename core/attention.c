#include "core/attention.h"

#include "core/linear_int.h"

#include <string.h>

bool attention_kernel_runs(size_t i, bool bf16)
{
    const struct linear_kernel *kernel = linear_kernel_at(i);
    return kernel && kernel->attend[bf16] && kernel->runs();
}

static const struct linear_kernel *find(bool bf16, const char *name)
{
    const struct linear_kernel *found = NULL;
    for (size_t i = 0; linear_kernel_at(i); i++)
        if (attention_kernel_runs(i, bf16) && (name ? strcmp(name, linear_kernel_name(i)) == 0 : i > 0))
            found = linear_kernel_at(i);
    return found;
}

const struct linear_kernel *attention_choose(bool *bf16, bool wanted_bf16, const char *name)
{
    const char *const names[] = {name, NULL};
    for (size_t i = name ? 0 : 1; i < 2; i++)
        for (int type = wanted_bf16; type >= 0; type--) {
            const struct linear_kernel *found = find(type, names[i]);
            *bf16 = type;
            if (found)
                return found;
        }
    return linear_kernel_at(0); /* not reached: the portable one runs everywhere */
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
