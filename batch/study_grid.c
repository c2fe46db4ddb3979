#include "batch/study_grid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *option;
    size_t offset;         /* of the number in the config */
    enum ablation without; /* under which the axis has no meaning */
} axes[STUDY_AXES] = {
    [STUDY_ABLATION] = {"ablation", "ablations", 0, ABLATION_NONE},
    [STUDY_M] = {"m", "m", offsetof(struct model_config, user_codes), ABLATION_NO_UPE},
    [STUDY_N] = {"n", "n", offsetof(struct model_config, content_codes), ABLATION_NO_CPE},
    [STUDY_SESSION_SIZE] = {"session_size", "session-size", offsetof(struct model_config, session_size),
        ABLATION_NO_GROUPING},
};

const char *study_axis_name(enum study_axis axis)
{
    return axes[axis].name;
}

void study_run_name(char out[64], const struct study_grid *grid, size_t variant, size_t seed)
{
    snprintf(out, 64, "%s-s%lu", grid->variants[variant].name, grid->seeds[seed]);
}

static size_t get(const struct model_config *config, enum study_axis axis)
{
    size_t value;
    if (axis == STUDY_ABLATION)
        return (size_t)config->ablation;
    memcpy(&value, (const char *)config + axes[axis].offset, sizeof value);
    return value;
}

static void set(struct model_config *config, enum study_axis axis, size_t value)
{
    if (axis == STUDY_ABLATION)
        config->ablation = (enum ablation)value;
    else
        memcpy((char *)config + axes[axis].offset, &value, sizeof value);
}

/* ---- lists ---- */

/* The next element of a list, cut out at *list; its bytes, 0 at the end. An element that is empty or does not fit is "?". */
static size_t next(char out[32], const char **list)
{
    if (!**list)
        return 0;
    const size_t len = strcspn(*list, ",");
    if (len == 0 || len > 31)
        strcpy(out, "?");
    else
        snprintf(out, 32, "%.*s", (int)len, *list);
    *list += len;
    if (**list == ',')
        *list += (*list)[1] ? 1 : 0; /* a comma at the end stays, and is an empty element */
    return strlen(out);
}

static int parse_number(unsigned long *out, const char *text, unsigned long most)
{
    char *end;
    errno = 0;
    *out = strtoul(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && !errno && *out <= most ? 0 : -ERR_INVALID;
}

static int parse_seeds(struct study_grid *grid, const char *list, struct err *err)
{
    char text[32];
    while (next(text, &list) > 0) {
        unsigned long seed;
        if (parse_number(&seed, text, 2147483647) < 0)
            return err_set(err, ERR_INVALID, "--seeds: '%s' is no integer between 0 and 2147483647", text);
        if (grid->seed_count == STUDY_SEEDS)
            return err_set(err, ERR_INVALID, "--seeds: at most %d", STUDY_SEEDS);
        for (size_t i = 0; i < grid->seed_count; i++)
            if (grid->seeds[i] == seed)
                return err_set(err, ERR_INVALID, "--seeds: %lu comes twice", seed);
        grid->seeds[grid->seed_count++] = seed;
    }
    return grid->seed_count ? 0 : err_set(err, ERR_INVALID, "--seeds: the list is empty");
}

static int parse_value(size_t *out, enum study_axis axis, const char *text, struct err *err)
{
    if (axis == STUDY_ABLATION) {
        enum ablation ablation;
        const int result = ablation_parse(&ablation, text, err);
        if (result < 0)
            err_place(err, "--ablations: ");
        else
            *out = (size_t)ablation;
        return result;
    }
    unsigned long number;
    if (parse_number(&number, text, 4096) < 0 || number == 0)
        return err_set(
            err, ERR_INVALID, "--%s: '%s' is no integer between 1 and 4096", axes[axis].option, text);
    *out = number;
    return 0;
}

/* ---- variants ---- */

/* The config as it would be read from a file: no single key tells all that can be wrong with it. */
static int check(const struct model_config *config, struct err *err)
{
    struct model_config again;
    char *text = model_config_dump(config, NULL, 0);
    if (!text)
        return err_set(err, ERR_NOMEM, "out of memory");
    const int result = model_config_parse(&again, text, strlen(text), err);
    free(text);
    return result;
}

static int add(struct study_grid *grid, enum study_axis axis, size_t value, struct err *err)
{
    struct study_value *values = grid->values[axis];
    const size_t count = grid->value_count[axis];
    for (size_t i = 0; i < count; i++)
        if (values[i].value == value)
            return 0;
    if (count == STUDY_VALUES)
        return err_set(err, ERR_INVALID, "--%s: at most %d values", axes[axis].option, STUDY_VALUES);
    size_t variant = 0, at = count;
    if (value != get(&grid->variants[0].config, axis)) {
        struct study_variant *v = &grid->variants[grid->variant_count];
        v->config = grid->variants[0].config;
        set(&v->config, axis, value);
        if (axis == STUDY_ABLATION)
            snprintf(v->name, sizeof v->name, "%s", ablation_name(v->config.ablation));
        else
            snprintf(v->name, sizeof v->name, "%s%zu", axes[axis].name, value);
        const int result = check(&v->config, err);
        if (result < 0) {
            err_place(err, "%s: ", v->name);
            return result;
        }
        variant = grid->variant_count++;
    }
    for (; axis != STUDY_ABLATION && at > 0 && values[at - 1].value > value; at--)
        values[at] = values[at - 1];
    values[at] = (struct study_value){value, variant};
    grid->value_count[axis]++;
    return 0;
}

static int add_axis(struct study_grid *grid, enum study_axis axis, const char *list, struct err *err)
{
    const struct model_config *base = &grid->variants[0].config;
    char text[32];
    if (axis != STUDY_ABLATION && base->ablation == axes[axis].without)
        return err_set(err, ERR_INVALID, "--%s: changes nothing under the base's ablation %s",
            axes[axis].option, ablation_name(base->ablation));
    int result = add(grid, axis, get(base, axis), err);
    while (result == 0 && next(text, &list) > 0) {
        size_t value = 0;
        result = parse_value(&value, axis, text, err);
        if (result == 0)
            result = add(grid, axis, value, err);
    }
    return result;
}

int study_grid_make(struct study_grid *grid, const struct model_config *base,
    const char *const lists[STUDY_AXES], const char *seeds, struct err *err)
{
    *grid = (struct study_grid){.variant_count = 1};
    strcpy(grid->variants[0].name, "base");
    grid->variants[0].config = *base;
    int result = parse_seeds(grid, seeds, err);
    for (size_t axis = 0; result == 0 && axis < STUDY_AXES; axis++)
        if (lists[axis])
            result = add_axis(grid, (enum study_axis)axis, lists[axis], err);
    return result;
}
