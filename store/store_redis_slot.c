/* Where keys are in a cluster, and how its nodes say that they are elsewhere. */
#include "store/store_redis_int.h"

#include <string.h>

/* x^16 + x^12 + x^5 + 1, the highest bit first, from 0: the specification's CRC16, four bits at a time. */
static unsigned crc16(const char *data, size_t len)
{
    static const uint16_t table[16] = {0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7, 0x8108,
        0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef};
    unsigned crc = 0;
    for (size_t i = 0; i < len; i++) {
        const unsigned byte = (unsigned char)data[i];
        crc = (crc << 4 & 0xffff) ^ table[crc >> 12 ^ byte >> 4];
        crc = (crc << 4 & 0xffff) ^ table[crc >> 12 ^ (byte & 15)];
    }
    return crc;
}

unsigned redis_slot(const char *key, size_t len)
{
    const char *const open = memchr(key, '{', len);
    if (open) {
        const char *const tag = open + 1, *const close = memchr(tag, '}', (size_t)(key + len - tag));
        if (close && close > tag)
            return crc16(tag, (size_t)(close - tag)) % REDIS_SLOTS;
    }
    return crc16(key, len) % REDIS_SLOTS;
}

/* "3999 127.0.0.1:6381"; an IPv6 has no brackets, the port is behind the last colon. */
static bool parse_target(struct redis_redirect *out, const char *text)
{
    const size_t digits = strcspn(text, " ");
    const char *const host = text + digits + 1, *const colon = strrchr(text, ':');
    uint64_t slot, port;
    if (!text[digits] || !colon || colon < host || !store_number_parse(&slot, text, digits) ||
        slot >= REDIS_SLOTS)
        return false;
    const size_t host_len = (size_t)(colon - host), port_len = strlen(colon + 1);
    if (!store_number_parse(&port, colon + 1, port_len) || port == 0 || port > 65535 ||
        host_len >= sizeof out->host)
        return false;
    out->slot = (unsigned)slot;
    memcpy(out->host, host, host_len);
    out->host[host_len] = '\0';
    memcpy(out->port, colon + 1, port_len + 1);
    return true;
}

bool redis_redirect_parse(struct redis_redirect *out, const char *error)
{
    struct redis_redirect redirect = {.kind = REDIS_STAY};
    if (strncmp(error, "MOVED ", 6) == 0 && parse_target(&redirect, error + 6))
        redirect.kind = REDIS_MOVED;
    else if (strncmp(error, "ASK ", 4) == 0 && parse_target(&redirect, error + 4))
        redirect.kind = REDIS_ASK;
    else if (strncmp(error, "TRYAGAIN", 8) == 0)
        redirect.kind = REDIS_TRYAGAIN;
    else if (strncmp(error, "CLUSTERDOWN", 11) == 0)
        redirect.kind = REDIS_DOWN;
    *out = redirect;
    return redirect.kind != REDIS_STAY;
}
