#include "server/spares.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char things[SPARES_MAX + 1];

/* Take so many at once, and give them back; how many came back to be freed. */
static size_t use(struct spares *spares, size_t count)
{
    void *taken[SPARES_MAX];
    size_t freed = 0;
    for (size_t i = 0; i < count; i++) {
        taken[i] = spares_take(spares);
        assert_non_null(taken[i]);
    }
    while (count--)
        freed += spares_give(spares, taken[count]) != NULL;
    return freed;
}

static void test_stack(void **state)
{
    (void)state;
    struct spares spares = {0};
    assert_null(spares_take(&spares));
    for (size_t i = 0; i < SPARES_MAX; i++)
        assert_null(spares_give(&spares, &things[i]));
    assert_ptr_equal(
        spares_give(&spares, &things[SPARES_MAX]), &things[SPARES_MAX]); /* there is no more room */
    for (size_t i = SPARES_MAX; i-- > 0;)
        assert_ptr_equal(spares_take(&spares), &things[i]);
    assert_null(spares_take(&spares));
}

/* As many as are needed at once stay; the others go, from the bottom, within two looks. */
static void test_surplus(void **state)
{
    (void)state;
    struct spares spares = {0};
    for (size_t i = 0; i < 50; i++)
        spares_give(&spares, &things[i]);
    size_t freed = 0;
    for (size_t uses = 0; uses < 3 * SPARES_LOOK; uses += 10)
        freed += use(&spares, 10);
    assert_int_equal(spares.count, 10);
    assert_int_equal(freed, 40);
    for (size_t i = 50; i-- > 40;)
        assert_ptr_equal(spares_take(&spares), &things[i]);
}

/* Each of those that are kept was needed since the last look but one. */
static void test_all_in_use(void **state)
{
    (void)state;
    struct spares spares = {0};
    for (size_t i = 0; i < 5; i++)
        spares_give(&spares, &things[i]);
    for (size_t uses = 0; uses < 10 * SPARES_LOOK; uses += 5)
        assert_int_equal(use(&spares, 5), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stack),
        cmocka_unit_test(test_surplus),
        cmocka_unit_test(test_all_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
