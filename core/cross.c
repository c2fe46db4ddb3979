#include "core/cross.h"

#include "core/cross_int.h"

/* From the slowest to the fastest. */
static const struct cross_kernel *const kernels[] = {
    &cross_plain, &cross_portable, &cross_avx2, &cross_avx512, &cross_avx512_bf16};
enum { KERNELS = sizeof kernels / sizeof *kernels };

const char *cross_dtype_name(enum cross_dtype dtype)
{
    return dtype == CROSS_BF16 ? "bfloat16" : "float32";
}

const struct cross_kernel *cross_kernel(size_t i)
{
    return i < KERNELS ? kernels[i] : NULL;
}

const char *cross_kernel_name(const struct cross_kernel *kernel)
{
    return kernel->name;
}

bool cross_kernel_runs(const struct cross_kernel *kernel, enum cross_dtype dtype)
{
    return kernel->run[dtype] && kernel->runs();
}

const struct cross_kernel *cross_best(enum cross_dtype dtype)
{
    size_t i = KERNELS - 1;
    while (i > 0 && !cross_kernel_runs(kernels[i], dtype))
        i--;
    return kernels[i];
}

/* ---- scratch ---- */

static size_t round_up(size_t x, size_t step)
{
    return (x + step - 1) / step * step;
}

size_t cross_scratch(size_t heads, size_t d)
{
    heads = round_up(heads, CROSS_HEADS);
    d = round_up(d, CROSS_CHUNK);
    return 2 * heads * d + CROSS_BLOCK * CROSS_HEADS + heads * 3 * CROSS_LANES + CROSS_BLOCK * d;
}

struct cross_room cross_divide(float *scratch, size_t heads, size_t d)
{
    struct cross_room room;
    heads = round_up(heads, CROSS_HEADS);
    d = round_up(d, CROSS_CHUNK);
    room.query = scratch;
    room.sums = room.query + heads * d;
    room.scores = room.sums + heads * d;
    room.state = room.scores + CROSS_BLOCK * CROSS_HEADS;
    room.rows = room.state + heads * 3 * CROSS_LANES;
    return room;
}

void cross_attend(const struct cross_kernel *kernel, float *context, const float *query,
    const struct cross_source *source, size_t heads, size_t d, float *scratch)
{
    kernel->run[source->dtype](context, query, source, heads, d, scratch);
}
