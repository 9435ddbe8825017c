/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_yaml.c - any bytes as a YAML file: what is accepted is JSON, within the bounds, and the same when it is read as YAML again,
 * of which JSON is a part. */
#include "base/json.h"
#include "cli/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool to_json(struct span yaml, struct buf *out)
{
    struct error error = { 0 };
    enum err err = yaml_to_json(yaml, out, &error);
    assert(!err || (err == ERR_VALIDATION && error.message[0]));
    return !err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = { 0 };
    struct buf once = { 0 }, twice = { 0 };
    struct json doc;
    if (to_json(span_make(data, size), &once)) {
        assert(once.len <= 16 << 20);
        assert(json_parse(buf_view(&once), &(struct json_limits){ .depth = 64 }, &arena, &doc, NULL) == ERR_OK);
        if (to_json(buf_view(&once), &twice))
            assert(jv_equal(json_root(&doc), json_read(buf_view(&twice), &arena)));
    }
    buf_done(&once);
    buf_done(&twice);
    arena_done(&arena);
    return 0;
}
