/* A network address as people write it: 127.0.0.1:8080, [::1]:8080, localhost:8080. */
#ifndef EMBSUM_CONFIG_ADDRESS_H
#define EMBSUM_CONFIG_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

#define ADDRESS_HOST_MAX 254 /* a DNS name has at most 253 bytes (RFC 1035) */

struct address {
    char host[ADDRESS_HOST_MAX]; /* without the brackets of an IPv6 address */
    uint16_t port;               /* 0: the system chooses */
};

/* Take apart IPv4:port, [IPv6]:port or name:port; false if the text has none of these shapes. A name is
 * checked by its letters alone: whether it resolves is seen when it is used. out is untouched on failure,
 * and may be NULL. */
bool address_parse(struct address *out, const char *text);

/* Does whoever listens there hear this machine alone? Of names only localhost is one (RFC 6761, section 6.3): another
 * may resolve to anything. */
bool address_is_loopback(const struct address *address);

#endif
