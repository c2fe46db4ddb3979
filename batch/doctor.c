#include "batch/doctor.h"

#include "core/json.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"ok", "warning", "error"};

static void tell_json(
    const struct doctor *doctor, enum finding finding, const char *check, const char *todo, const char *found)
{
    json_t *const object =
        json_pack("{s:s, s:s, s:s}", "level", names[finding], "check", check, "found", found);
    if (todo)
        json_object_set_new(object, "todo", json_string(todo));
    char *const text =
        object ? json_write(object, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_ENSURE_ASCII) : NULL;
    /* A text that is no UTF-8 is no JSON either, but the level is told. */
    if (text)
        fprintf(doctor->screen->out, "%s\n", text);
    else
        fprintf(doctor->screen->out, "{\"level\":\"%s\",\"check\":\"%s\"}\n", names[finding], check);
    free(text);
    json_decref(object);
}

static void tell_person(
    const struct doctor *doctor, enum finding finding, const char *check, const char *todo, const char *found)
{
    enum { LEVEL = 9, CHECK = 23, INDENT = LEVEL + CHECK };
    static const enum screen_style styles[] = {SCREEN_GREEN, SCREEN_YELLOW, SCREEN_RED};
    const struct screen *const screen = doctor->screen;
    screen_style(screen, styles[finding]);
    fprintf(screen->out, "%-*s", LEVEL, names[finding]);
    screen_style(screen, SCREEN_PLAIN);
    fprintf(screen->out, "%-*s", CHECK - 1, check);
    fputc(' ', screen->out);
    const size_t at = LEVEL + (strlen(check) < CHECK - 1 ? CHECK : strlen(check) + 1);
    screen_wrap(screen, found, strlen(found), at, INDENT);
    if (!todo)
        return;
    fprintf(screen->out, "%*s-> ", INDENT, "");
    screen_wrap(screen, todo, strlen(todo), INDENT + 3, INDENT + 3);
}

void doctor_tell(
    struct doctor *doctor, enum finding finding, const char *check, const char *todo, const char *format, ...)
{
    char found[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(found, sizeof found, format, args);
    va_end(args);
    doctor->findings[finding]++;
    if (doctor->as_json)
        tell_json(doctor, finding, check, todo, found);
    else
        tell_person(doctor, finding, check, todo, found);
    fflush(doctor->screen->out);
}

void doctor_tell_err(struct doctor *doctor, const char *check, const char *todo, const struct err *err)
{
    doctor_tell(doctor, FINDING_ERROR, check, todo, "%s", err->message);
}

void doctor_bytes(char out[32], double bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t unit = 0;
    for (; bytes >= 1024 && unit + 1 < sizeof units / sizeof *units; unit++)
        bytes /= 1024;
    snprintf(out, 32, unit && bytes < 100 ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
}
