/* The best k of a stream against sorting all of it; and the arena they live in. */
#include "server/arena.h"
#include "server/top.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_top(void **state)
{
    (void)state;
    struct arena arena = {0};
    uint64_t x = 5;
    printf("seed %llu\n", (unsigned long long)x);
    for (int round = 0; round < 2000; round++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        const size_t count = (size_t)(x >> 40) % 60, k = (size_t)(x >> 50) % 70;
        struct top all = {.hits = arena_array(&arena, count, sizeof(struct top_hit)), .k = count};
        struct top some = {.hits = arena_array(&arena, k, sizeof(struct top_hit)), .k = k};
        for (uint32_t i = 0; i < count; i++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            const float score = (float)(x >> 60); /* sixteen values: many ties */
            top_add(&all, score, i);
            top_add(&some, score, i);
        }
        top_sort(&all);
        top_sort(&some);
        assert_int_equal(all.count, count);
        assert_int_equal(some.count, k < count ? k : count);
        for (size_t i = 0; i < some.count; i++) {
            assert_int_equal(some.hits[i].index, all.hits[i].index);
            if (i)
                assert_true(all.hits[i - 1].score > all.hits[i].score ||
                            (all.hits[i - 1].score == all.hits[i].score &&
                                all.hits[i - 1].index < all.hits[i].index));
        }
        arena_reset(&arena);
    }
    arena_done(&arena);
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
