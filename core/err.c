#include "core/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void format_message(char *out, size_t size, const char *format, va_list args)
{
    if (vsnprintf(out, size, format, args) < 0)
        out[0] = '\0';
}

int err_set(struct err *err, enum err_code code, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        format_message(err->message, sizeof err->message, format, args);
        va_end(args);
        err->code = -(int)code;
    }
    return -(int)code;
}

int err_errno(struct err *err, const char *format, ...)
{
    const int number = errno;
    const enum err_code code = number == ENOENT ? ERR_NOT_FOUND : number == ENOMEM ? ERR_NOMEM : ERR_IO;
    if (err) {
        char what[384], why[96];
        va_list args;
        va_start(args, format);
        format_message(what, sizeof what, format, args);
        va_end(args);
        return err_set(err, code, "%s: %s", what, strerror_r(number, why, sizeof why));
    }
    return -(int)code;
}

int err_place(struct err *err, const char *format, ...)
{
    if (!err)
        return -(int)ERR_INVALID;
    char place[256], message[sizeof err->message];
    va_list args;
    va_start(args, format);
    format_message(place, sizeof place, format, args);
    va_end(args);
    memcpy(message, err->message, sizeof message);
    const size_t used = strlen(place);
    memcpy(err->message, place, used);
    /* The end of an overlong message is what can be spared; the place is not. */
    snprintf(err->message + used, sizeof err->message - used, "%.*s", (int)(sizeof err->message - used - 1),
        message);
    return err->code;
}

const char *err_name(int code)
{
    switch (abs(code)) {
    case 0:
        return "ok";
    case ERR_INVALID:
        return "invalid";
    case ERR_NOT_FOUND:
        return "not_found";
    case ERR_CORRUPT:
        return "corrupt";
    case ERR_UNAVAILABLE:
        return "unavailable";
    case ERR_BUSY:
        return "busy";
    case ERR_FENCED:
        return "fenced";
    case ERR_IO:
        return "io";
    case ERR_NOMEM:
        return "no_memory";
    default:
        return "unknown";
    }
}
