/* SPDX-License-Identifier: Apache-2.0 */
/* outbound.c - which URLs and addresses the process may connect to.
 *
 * Public means: not in the registries of special-purpose addresses (RFC 6890 and its successors). Of IPv6 only 2000::/3 is
 * handed out, so everything else is refused without a list. Addresses that carry an IPv4 address are judged by that one. */
#include "net/outbound.h"
#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

struct network {
    uint8_t  b[16]; /* IPv4 as ::ffff:a.b.c.d */
    unsigned bits;
};

struct outbound {
    struct arena    arena;
    struct network *networks;
    struct span    *names;
    size_t          network_count, name_count;
};

/* ---- addresses ---- */

static bool in_network(const uint8_t b[16], const uint8_t network[16], unsigned bits)
{
    unsigned bytes = bits / 8, rest = bits % 8;
    if (memcmp(b, network, bytes) != 0)
        return false;
    return rest == 0 || (b[bytes] ^ network[bytes]) >> (8 - rest) == 0;
}

static void map_v4(uint32_t host_order, uint8_t out[16])
{
    memset(out, 0, 10);
    out[10] = out[11] = 0xff;
    for (unsigned i = 0; i < 4; i++)
        out[12 + i] = (uint8_t)(host_order >> (24 - 8 * i));
}

static const struct { uint32_t net; uint8_t bits; } special_v4[] = {
    { 0x00000000, 8 },  /* this network */
    { 0x0a000000, 8 },  /* private */
    { 0x64400000, 10 }, /* carrier-grade NAT; 100.100.100.200 is a metadata service */
    { 0x7f000000, 8 },  /* loopback */
    { 0xa83f8110, 32 }, /* 168.63.129.16, a cloud's host service under a public address */
    { 0xa9fe0000, 16 }, /* link-local; 169.254.169.254 is the metadata service of most clouds */
    { 0xac100000, 12 }, /* private */
    { 0xc0000000, 24 }, /* protocol assignments */
    { 0xc0000200, 24 }, /* documentation */
    { 0xc0586300, 24 }, /* relays of 6to4 */
    { 0xc0a80000, 16 }, /* private */
    { 0xc6120000, 15 }, /* benchmarks */
    { 0xc6336400, 24 }, /* documentation */
    { 0xcb007100, 24 }, /* documentation */
    { 0xe0000000, 4 },  /* multicast */
    { 0xf0000000, 4 },  /* reserved, broadcast */
};

static bool v4_public(const uint8_t b[4])
{
    uint32_t a = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    for (size_t i = 0; i < ARRAY_LEN(special_v4); i++)
        if ((a ^ special_v4[i].net) >> (32 - special_v4[i].bits) == 0)
            return false;
    return true;
}

static const struct { uint8_t net[16]; uint8_t bits; } special_v6[] = {
    { { 0x20, 0x01, 0x00 }, 23 },                   /* protocol assignments, Teredo */
    { { 0x20, 0x01, 0x0d, 0xb8 }, 32 },             /* documentation */
    { { 0x20, 0x02 }, 16 },                         /* 6to4: leads to any IPv4 address */
    { { 0x3f, 0xff, 0x00 }, 20 },                   /* documentation */
};

static bool v6_public(const uint8_t b[16])
{
    static const uint8_t mapped[16] = { [10] = 0xff, [11] = 0xff };
    static const uint8_t nat64[16] = { 0x00, 0x64, 0xff, 0x9b };
    if (in_network(b, mapped, 96) || in_network(b, nat64, 96))
        return v4_public(b + 12);
    if (b[0] >> 5 != 1) /* not 2000::/3 */
        return false;
    for (size_t i = 0; i < ARRAY_LEN(special_v6); i++)
        if (in_network(b, special_v6[i].net, special_v6[i].bits))
            return false;
    return true;
}

static bool allows_bytes(const struct outbound *outbound, const uint8_t b[16])
{
    if (v6_public(b))
        return true;
    for (size_t i = 0; outbound && i < outbound->network_count; i++)
        if (in_network(b, outbound->networks[i].b, outbound->networks[i].bits))
            return true;
    return false;
}

bool outbound_allows_address(const struct outbound *outbound, const struct sockaddr *address)
{
    uint8_t b[16];
    if (address->sa_family == AF_INET)
        map_v4(ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr), b);
    else if (address->sa_family == AF_INET6)
        memcpy(b, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, sizeof b);
    else
        return false;
    return allows_bytes(outbound, b);
}

/* A dotted IPv4 or an IPv6 address without brackets; a zone ("%eth0") is no part of it. */
static bool read_address(struct span text, uint8_t ret[16])
{
    char            copy[INET6_ADDRSTRLEN];
    struct in_addr  v4;
    const char     *zone = memchr(text.p, '%', text.n);
    size_t          n = zone ? (size_t)(zone - text.p) : text.n;
    if (n == 0 || n >= sizeof copy)
        return false;
    memcpy(copy, text.p, n);
    copy[n] = 0;
    if (inet_pton(AF_INET, copy, &v4) == 1) {
        map_v4(ntohl(v4.s_addr), ret);
        return true;
    }
    return inet_pton(AF_INET6, copy, ret) == 1;
}

bool outbound_allows_literal(const struct outbound *outbound, struct span host)
{
    uint8_t b[16];
    return !read_address(host, b) || allows_bytes(outbound, b);
}

/* ---- what is allowed by name ---- */

static struct span without_dot(struct span host)
{
    if (host.n > 1 && host.p[host.n - 1] == '.')
        host.n--;
    return host;
}

bool outbound_allows_host(const struct outbound *outbound, struct span host)
{
    host = without_dot(host);
    for (size_t i = 0; outbound && i < outbound->name_count; i++) {
        struct span name = outbound->names[i];
        bool        below = name.n > 2 && name.p[0] == '*';
        if (below ? host.n > name.n - 1 && strncasecmp(host.p + host.n - (name.n - 1), name.p + 1, name.n - 1) == 0
                  : host.n == name.n && strncasecmp(host.p, name.p, name.n) == 0)
            return true;
    }
    return false;
}

static bool is_name(struct span text)
{
    struct span rest = text.n > 2 && text.p[0] == '*' && text.p[1] == '.' ? span_make(text.p + 2, text.n - 2) : text;
    if (rest.n == 0 || rest.n > 253)
        return false;
    for (size_t i = 0; i < rest.n; i++) {
        char c = rest.p[i];
        if (!((c | 0x20) >= 'a' && (c | 0x20) <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '.' && c != '_')
            return false;
    }
    return true;
}

static bool read_network(struct span text, struct network *ret)
{
    const char *slash = memchr(text.p, '/', text.n);
    struct span address = slash ? span_make(text.p, (size_t)(slash - text.p)) : text;
    if (address.n > 2 && address.p[0] == '[' && address.p[address.n - 1] == ']')
        address = span_make(address.p + 1, address.n - 2);
    if (!read_address(address, ret->b) || memchr(address.p, '%', address.n))
        return false;
    bool     v4 = !memchr(address.p, ':', address.n);
    unsigned bits = v4 ? 32 : 128;
    if (slash) {
        size_t digits = text.n - address.n - 1;
        if (digits == 0 || digits > 3)
            return false;
        unsigned want = 0;
        for (size_t i = 1; i <= digits; i++) {
            if (slash[i] < '0' || slash[i] > '9')
                return false;
            want = want * 10 + (unsigned)(slash[i] - '0');
        }
        if (want > bits)
            return false;
        bits = want;
    }
    ret->bits = v4 ? 96 + bits : bits;
    return true;
}

static enum err add_entry(struct outbound *outbound, struct span text, struct error *error)
{
    struct network network;
    if (text.n && read_network(text, &network))
        outbound->networks[outbound->network_count++] = network;
    else if (is_name(text))
        outbound->names[outbound->name_count++] = without_dot(text);
    else
        return error_set(error, ERR_VALIDATION, "/outbound/allow", "\"%.*s\" is no host name, address or network",
                         SPAN_ARG(text));
    return ERR_OK;
}

enum err outbound_new(struct jv allow, struct outbound **ret, struct error *error)
{
    struct outbound *outbound = mem_alloc(sizeof *outbound);
    enum err         err = ERR_OK;
    size_t           count = jv_is(allow, JSON_ARRAY) ? jv_count(allow) : 0;
    if (!jv_is(allow, JSON_ARRAY) && !jv_is(allow, JSON_NONE))
        err = error_set(error, ERR_VALIDATION, "/outbound/allow", "allow: must be an array of texts");
    outbound->networks = ARENA_ARRAY(&outbound->arena, struct network, count + 1);
    outbound->names = ARENA_ARRAY(&outbound->arena, struct span, count + 1);
    for (struct jv_iter it = jv_iter(allow); !err && count && jv_step(&it);)
        err = add_entry(outbound, arena_copy(&outbound->arena, jv_string(it.value, &outbound->arena)), error);
    if (err) {
        outbound_free(outbound);
        return err;
    }
    *ret = outbound;
    return ERR_OK;
}

void outbound_free(struct outbound *outbound)
{
    if (!outbound)
        return;
    arena_done(&outbound->arena);
    free(outbound);
}

/* ---- URLs ---- */

static bool has_part(CURLU *url, CURLUPart part)
{
    char *text = NULL;
    bool  has = curl_url_get(url, part, &text, 0) == CURLUE_OK;
    curl_free(text);
    return has;
}

static enum err check_parts(CURLU *url, struct arena *arena, struct span *ret_host, struct error *error)
{
    char    *text = NULL;
    enum err err = ERR_OK;
    if (curl_url_get(url, CURLUPART_SCHEME, &text, 0) || (strcmp(text, "http") != 0 && strcmp(text, "https") != 0))
        err = error_set(error, ERR_INVALID_PARAMETER, "url", "not an http or https URL");
    else if (has_part(url, CURLUPART_USER) || has_part(url, CURLUPART_PASSWORD))
        err = error_set(error, ERR_INVALID_PARAMETER, "url", "a URL must not hold a user name or password");
    curl_free(text);
    text = NULL;
    if (!err && (curl_url_get(url, CURLUPART_HOST, &text, 0) || !*text))
        err = error_set(error, ERR_INVALID_PARAMETER, "url", "a URL must have a host");
    if (!err) {
        struct span host = span_of(text);
        if (host.n > 2 && host.p[0] == '[')
            host = span_make(host.p + 1, host.n - 2);
        struct span copy = arena_copy(arena, host);
        for (size_t i = 0; i < copy.n; i++)
            if (copy.p[i] >= 'A' && copy.p[i] <= 'Z')
                ((char *)copy.p)[i] = (char)(copy.p[i] | 0x20); /* our own copy */
        *ret_host = copy;
    }
    curl_free(text);
    return err;
}

enum err outbound_url(const char *url, struct arena *arena, struct span *ret_host, struct error *error)
{
    for (const char *p = url; *p; p++)
        if ((unsigned char)*p <= 0x20 || *p == 0x7f || *p == '\\')
            return error_set(error, ERR_INVALID_PARAMETER, "url", "a URL holds no spaces, control characters or backslashes");
    size_t scheme = strncasecmp(url, "http://", 7) == 0 ? 7 : strncasecmp(url, "https://", 8) == 0 ? 8 : 0;
    CURLU *parts = scheme && url[scheme] != '/' ? curl_url() : NULL; /* libcurl would take one slash and three as well */
    if (!parts || curl_url_set(parts, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME)) {
        curl_url_cleanup(parts);
        return error_set(error, ERR_INVALID_PARAMETER, "url", "not an http or https URL");
    }
    enum err err = check_parts(parts, arena, ret_host, error);
    curl_url_cleanup(parts);
    return err;
}

const char *outbound_join(const char *base, const char *reference, struct arena *arena)
{
    CURLU      *url = curl_url();
    char       *text = NULL;
    const char *joined = NULL;
    if (url && !curl_url_set(url, CURLUPART_URL, base, 0) && !curl_url_set(url, CURLUPART_URL, reference, CURLU_NON_SUPPORT_SCHEME) &&
        !curl_url_get(url, CURLUPART_URL, &text, 0))
        joined = arena_copy(arena, span_of(text)).p;
    curl_free(text);
    curl_url_cleanup(url);
    return joined;
}
