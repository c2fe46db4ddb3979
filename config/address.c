#include "config/address.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool parse_port(uint16_t *out, const char *text)
{
    unsigned port = 0;
    const size_t len = strlen(text);
    if (len == 0 || len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(text[i]))
            return false;
        port = 10 * port + (unsigned)(text[i] - '0');
    }
    if (port > UINT16_MAX)
        return false;
    *out = (uint16_t)port;
    return true;
}

/* Labels of 1 to 63 letters, digits and inner hyphens, separated by dots (RFC 1123, section 2.1). The last
 * one must not be a number, or a mistyped IPv4 address would pass as a name. */
static bool is_name(const char *text)
{
    size_t label = 0;
    bool number = true;
    char before = '.';
    for (; *text; before = *text++) {
        if (*text == '.') {
            if (label == 0 || before == '-')
                return false;
            label = 0;
            number = true;
            continue;
        }
        const bool letter = (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z');
        if (!letter && !is_digit(*text) && (*text != '-' || label == 0))
            return false;
        number = number && is_digit(*text);
        if (++label > 63)
            return false;
    }
    return label > 0 && before != '-' && !number;
}

bool address_parse(struct address *out, const char *text)
{
    struct address address = {0};
    const char *const colon = strrchr(text, ':');
    if (!colon || !parse_port(&address.port, colon + 1))
        return false;
    size_t len = (size_t)(colon - text);
    const bool brackets = len >= 2 && text[0] == '[' && text[len - 1] == ']';
    if (brackets) {
        text++;
        len -= 2;
    }
    if (len >= sizeof address.host)
        return false;
    memcpy(address.host, text, len);

    unsigned char bytes[sizeof(struct in6_addr)];
    const bool valid = brackets ? inet_pton(AF_INET6, address.host, bytes) == 1
                                : inet_pton(AF_INET, address.host, bytes) == 1 || is_name(address.host);
    if (valid && out)
        *out = address;
    return valid;
}

bool address_is_loopback(const struct address *address)
{
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, address->host, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, address->host, &six) == 1)
        return IN6_IS_ADDR_LOOPBACK(&six) || (IN6_IS_ADDR_V4MAPPED(&six) && six.s6_addr[12] == 127);
    return strcasecmp(address->host, "localhost") == 0;
}
