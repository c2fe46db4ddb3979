/* The best k of a stream against sorting all of it; and the arena they live in. */
#include "server/arena.h"
#include "server/top.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t draw(uint64_t *x)
{
    *x = *x * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*x >> 32);
}

/* The judge: the definition, and the C library's sort. */
static int compare(const void *a, const void *b)
{
    const struct top_hit *one = a, *other = b;
    if (one->score != other->score)
        return one->score > other->score ? -1 : 1;
    return one->index < other->index ? -1 : one->index > other->index;
}

/* Any finite float; or few values, and so many ties; or zeros of both signs and subnormals among them. */
static float draw_score(uint64_t *x, unsigned kind)
{
    const uint32_t bits = draw(x);
    float score;
    switch (kind % 4) {
    case 0:
        memcpy(&score, &bits, sizeof score);
        return isfinite(score) ? score : -FLT_MAX;
    case 1:
        return (float)(bits >> 28) - 8;
    case 2:
        return (bits & 1 ? -1.0f : 1.0f) * (float)(bits >> 30) * 0x1p-149f;
    default:
        return 1 + (float)(bits >> 8) * 0x1p-24f;
    }
}

struct arrays {
    struct arena arena;
    struct top_hit *all, *hits, *scratch;
    float *scores;
    uint32_t *index;
};

static void arrays_make(struct arrays *arrays, size_t count, size_t k)
{
    arrays->all = arena_array(&arrays->arena, count, sizeof *arrays->all);
    arrays->hits = arena_array(&arrays->arena, k, sizeof *arrays->hits);
    arrays->scratch = arena_array(&arrays->arena, k, sizeof *arrays->scratch);
    arrays->scores = arena_array(&arrays->arena, count, sizeof *arrays->scores);
    arrays->index = arena_array(&arrays->arena, count, sizeof *arrays->index);
    assert_true(arrays->all && arrays->hits && arrays->scratch && arrays->scores && arrays->index);
}

static void check(struct arrays *arrays, const struct top *top, size_t count)
{
    assert_int_equal(top->count, top->k < count ? top->k : count);
    if (top->count && memcmp(top->hits, arrays->all, top->count * sizeof *top->hits) != 0)
        fail_msg("the best %zu of %zu are others", top->k, count);
}

/* The best k of count, added one by one, as chunks with and without an index, sorted with and without scratch. */
static void compare_with_judge(struct arrays *arrays, uint64_t *x, size_t count, size_t k, unsigned kind)
{
    arrays_make(arrays, count, k);
    const uint32_t step = 1 + draw(x) % 3, first = draw(x) % 70000;
    for (size_t i = 0; i < count; i++) {
        arrays->scores[i] = draw_score(x, kind);
        arrays->index[i] = (uint32_t)i * step;
        arrays->all[i] = (struct top_hit){arrays->scores[i], first + arrays->index[i]};
    }
    struct top single = {.hits = arrays->hits, .k = k};
    const bool shuffled = kind / 4 % 2;
    for (size_t i = 0; i < count; i++) {
        const struct top_hit *hit = &arrays->all[shuffled ? count - 1 - i : i];
        top_add(&single, hit->score, hit->index);
    }
    if (count)
        qsort(arrays->all, count, sizeof *arrays->all, compare);
    if (kind / 8 % 2)
        single.scratch = arrays->scratch;
    top_sort(&single);
    check(arrays, &single, count);

    struct top chunks = {.hits = arrays->hits, .scratch = arrays->scratch, .k = k};
    for (size_t done = 0, size; done < count; done += size) {
        size = 1 + draw(x) % 400;
        size = size < count - done ? size : count - done;
        if (step == 1)
            top_add_chunk(&chunks, arrays->scores + done, NULL, first + (uint32_t)done, size);
        else
            top_add_chunk(&chunks, arrays->scores + done, arrays->index + done, first, size);
    }
    top_sort(&chunks);
    check(arrays, &chunks, count);
    arena_reset(&arrays->arena);
}

static void test_top(void **state)
{
    (void)state;
    struct arrays arrays = {0};
    uint64_t x = 5;
    printf("seed %llu\n", (unsigned long long)x);
    for (unsigned round = 0; round < 20000; round++)
        compare_with_judge(&arrays, &x, draw(&x) % 130, draw(&x) % 150, round);
    for (unsigned round = 0; round < 64; round++)
        compare_with_judge(&arrays, &x, 2000 + draw(&x) % 3000, round & 16 ? 5000 : draw(&x) % 3000, round);
    for (unsigned round = 0; round < 16; round++)
        compare_with_judge(&arrays, &x, 100000, round & 1 ? 100000 : 1000, round / 2);
    arena_done(&arrays.arena);
}

static void test_arena(void **state)
{
    (void)state;
    struct arena arena = {0};
    for (int round = 0; round < 3; round++) {
        for (size_t size = 0; size < 2000000; size = 2 * size + 1) {
            unsigned char *memory = arena_alloc(&arena, size);
            assert_non_null(memory);
            assert_int_equal((uintptr_t)memory % 16, 0);
            for (size_t i = 0; i < size; i++)
                if (memory[i])
                    fail_msg("not zeroed");
            memset(memory, 0xAA, size);
        }
        char *copy = arena_copy(&arena, "abcdef", 3);
        assert_string_equal(copy, "abc");
        arena_reset(&arena);
    }
    assert_null(arena_array(&arena, SIZE_MAX / 2, 4));
    assert_null(arena_alloc(&arena, SIZE_MAX));
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_top),
        cmocka_unit_test(test_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
