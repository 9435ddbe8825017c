/* SPDX-License-Identifier: Apache-2.0 */
/* order.c - the selection hash and the collation behind the order of agents. */
#include "team/order.h"
#include "team/text.h"

/* ---- selection hash ---- */

static void fnv_unit(void *user, uint32_t unit)
{
    uint32_t *hash = user;
    *hash = (*hash ^ unit) * 0x01000193u;
}

uint32_t team_selection_hash(struct span seed, const struct team_agent *agent)
{
    const struct span parts[] = { seed, agent->id, agent->role, agent->instructions };
    uint32_t          hash = 0x811c9dc5;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (i)
            fnv_unit(&hash, 0);
        js_units(parts[i], fnv_unit, &hash);
    }
    return hash;
}

/* ---- collation ---- */

/* Place of a character on the first level; 0: it counts for nothing (controls). */
static uint32_t primary(uint32_t cp)
{
    static const char punctuation[] = "\t\n\v\f\r _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$";
    if (cp >= 0x80)
        return 0x1000 + cp;
    if (cp >= '0' && cp <= '9')
        return 0x100 + cp;
    if ((cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z'))
        return 0x200 + (cp | 0x20);
    const char *at = cp ? strchr(punctuation, (int)cp) : NULL;
    return at ? 1 + (uint32_t)(at - punctuation) : 0;
}

struct walk {
    const char *p, *end;
};

/* The next character that counts, or 0 at the end. */
static uint32_t next_char(struct walk *at)
{
    while (at->p < at->end) {
        unsigned n;
        uint32_t cp = js_char(at->p, at->end, &n);
        at->p += n;
        if (primary(cp))
            return cp;
    }
    return 0;
}

static struct walk walk_on(struct span text)
{
    return (struct walk){ text.p, text.n ? text.p + text.n : text.p };
}

int team_collate(struct span a, struct span b)
{
    struct walk left = walk_on(a), right = walk_on(b);
    int         tertiary = 0;
    for (;;) {
        uint32_t x = next_char(&left), y = next_char(&right);
        uint32_t px = x ? primary(x) : 0, py = y ? primary(y) : 0;
        if (px != py)
            return px < py ? -1 : 1;
        if (!x)
            return tertiary;
        if (!tertiary && x != y)
            tertiary = x > y ? -1 : 1; /* equal but for the case; 'a' > 'A' and stands first */
    }
}

static int identity_cmp(const struct team_agent *a, const struct team_agent *b)
{
    int order = team_collate(a->id, b->id);
    if (!order)
        order = team_collate(a->role, b->role);
    return order ? order : team_collate(a->instructions, b->instructions);
}

/* ---- order ---- */

static bool comes_before(const struct team_agent *a, const struct team_agent *b)
{
    return a->score != b->score ? a->score < b->score : identity_cmp(a, b) < 0;
}

/* By insertion: stable, and teams are small. */
static void sort_agents(struct team_agent *agents, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct team_agent agent = agents[i];
        size_t            at = i;
        for (; at > 0 && comes_before(&agent, &agents[at - 1]); at--)
            agents[at] = agents[at - 1];
        agents[at] = agent;
    }
}

void team_order(struct team_agent *agents, size_t count, double temperature, struct jv seed)
{
    if (temperature != 0)
        return;
    CLEANUP(arena_done) struct arena arena = { 0 };
    CLEANUP(buf_done) struct buf text = { 0 };
    double number;
    if (jv_is(seed, JSON_STRING))
        buf_span(&text, jv_string(seed, &arena));
    else if (jv_f64(seed, &number))
        json_put_f64(&text, number);
    for (size_t i = 0; i < count; i++)
        agents[i].score = jv_kind(seed) == JSON_NONE ? 0 : team_selection_hash(buf_view(&text), &agents[i]);
    sort_agents(agents, count);
}
