/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tz.c - time zone files and cron lines. The first line of the input is a cron line, the rest a TZif file; what both accept
 * is asked when it is due: behind the asked instant, on a whole minute of the local clock, and again from there. */
#include "base/mem.h"
#include "base/schedule.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char     *end = size ? memchr(data, '\n', size) : NULL;
    size_t          n = end ? (size_t)(end - (const char *)data) : size;
    struct schedule schedule;
    const char     *why = NULL;
    struct tz      *tz = NULL;
    bool            line = schedule_parse(span_make((const char *)data, n), &schedule, &why);
    assert(line || why);
    if (!end || tz_parse(span_make(end + 1, size - n - 1), &tz))
        return 0;
    for (int64_t at = -4000000000; at < 8000000000; at += 999999937) {
        int64_t offset = tz_offset_s(tz, at), next;
        assert(offset > -200000 && offset < 200000);
        if (line && schedule_next(&schedule, tz, at, &next)) {
            assert(next > at);
            assert((next + tz_offset_s(tz, next)) % 60 == 0);
        }
    }
    tz_free(tz);
    return 0;
}
