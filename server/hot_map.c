/* From the kernel and not from malloc: the entries are mapped once for as many as the bound allows and touched as
 * they come, and huge pages need an alignment that malloc does not give. Blocks of 4 KB in random order miss the TLB
 * with every look-up otherwise. */
#include "server/hot_int.h"

#include <sys/mman.h>

static size_t round_up(size_t bytes)
{
    return (bytes + HOT_PAGE - 1) / HOT_PAGE * HOT_PAGE;
}

void *hot_map(size_t bytes, bool *huge)
{
    /* The kernels of Debian 12 align to small pages: take more and give both ends back. */
    const size_t spare = bytes < HOT_HUGE ? 0 : HOT_HUGE - HOT_PAGE;
    if (bytes > SIZE_MAX / 2)
        return NULL;
    bytes = round_up(bytes);
    unsigned char *memory =
        mmap(NULL, bytes + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    if (!spare)
        return memory;
    const size_t before = (HOT_HUGE - (uintptr_t)memory % HOT_HUGE) % HOT_HUGE;
    if (before)
        munmap(memory, before);
    if (before < spare)
        munmap(memory + before + bytes, spare - before);
    memory += before;
    const bool advised = madvise(memory, bytes, MADV_HUGEPAGE) == 0;
    if (huge)
        *huge = advised;
    return memory;
}

void hot_touch(void *memory, size_t bytes)
{
    unsigned char *at = memory;
    if (madvise(memory, round_up(bytes), MADV_POPULATE_WRITE) == 0) /* Linux 5.14 */
        return;
    for (size_t i = 0; i < bytes; i += HOT_PAGE)
        *(volatile unsigned char *)(at + i) = 0;
}

void hot_unmap(void *memory, size_t bytes)
{
    if (memory)
        munmap(memory, round_up(bytes));
}
