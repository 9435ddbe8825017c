/* SPDX-License-Identifier: Apache-2.0 */
/* outbound.h - where outgoing connections may lead.
 *
 * The HTTP client asks here twice: about the URL before anything is resolved, and about every socket address right before it is
 * connected to. The second question is asked with the very address that connect() gets, so a name that resolves differently the
 * next time gains nothing. A redirect is a new call and is asked about again. What an operator's configuration names (a model
 * provider, an HTTP tool, an MCP server) is trusted with any address; what a model chose is not. */
#pragma once
#include "base/json.h"

struct sockaddr;
struct outbound; /* what is allowed although it is not public */

/* `allow`: absent, or an array of host names ("files.internal", "*.internal" for all names below), addresses and networks
 * ("10.0.0.0/8", "fd00::/8"). ERR_VALIDATION names the entry. */
enum err outbound_new(struct jv allow, struct outbound **ret, struct error *error);
void     outbound_free(struct outbound *outbound); /* accepts NULL */

/* What every URL must be: http or https, with a host, without user name and password. ERR_INVALID_PARAMETER with field "url".
 * *ret_host, in the arena, is the host in lower case without brackets; an IPv4 address in any notation (decimal, octal, hex) has
 * become its dotted form. */
enum err outbound_url(const char *url, struct arena *arena, struct span *ret_host, struct error *error);
/* The URL that `reference` (a Location header) means on the page `base`; NULL when it is none. In the arena. */
const char *outbound_join(const char *base, const char *reference, struct arena *arena);

/* The host is allowed by name: any address will do. `outbound` may be NULL: nothing is. */
bool outbound_allows_host(const struct outbound *outbound, struct span host);
/* The address is public, or allowed. Anything but IPv4 and IPv6 is not. */
bool outbound_allows_address(const struct outbound *outbound, const struct sockaddr *address);
/* The same for a host that is written as an address; true for a name, about which only its addresses can tell. */
bool outbound_allows_literal(const struct outbound *outbound, struct span host);
