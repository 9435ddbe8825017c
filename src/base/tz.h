/* SPDX-License-Identifier: Apache-2.0 */
/* tz.h - time zones from the system's database, without the C library's process-wide zone. RFC 8536 (TZif) and the rule in a
 * file's last line, which holds for all time behind the last listed change. */
#pragma once
#include "base/err.h"
#include "base/span.h"

#define TZ_FOLDER "/usr/share/zoneinfo"

struct tz;

/* An IANA name ("Europe/Berlin", "UTC"): letters, digits, "_+-" and inner slashes, so that it never leaves the folder.
 * ERR_NOT_FOUND: no such zone. ERR_CORRUPT: the file is none of ours. */
enum err tz_open(const char *folder, struct span name, struct tz **ret);
/* A whole TZif file of version 2 or later; the bytes may go away afterwards. ERR_CORRUPT. */
enum err tz_parse(struct span bytes, struct tz **ret);
void     tz_free(struct tz *tz); /* accepts NULL */

int64_t tz_offset_s(const struct tz *tz, int64_t unix_s); /* local time minus UTC, at that instant */
/* The instant at which clocks show `local_s` (seconds since 1970 as if local time were UTC); the earlier one of two. false: no
 * clock ever shows it. */
bool    tz_instant(const struct tz *tz, int64_t local_s, int64_t *ret_unix_s);
