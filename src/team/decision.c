/* SPDX-License-Identifier: Apache-2.0 */
/* decision.c - reads "role_selected: … participation: … rationale: … contribution: …" out of an answer.
 *
 * What the four patterns of teams.md 9 match, without a pattern engine. Flags imu: a label is compared by Unicode case
 * folding (which adds U+017F for s and U+212A for k to ASCII), and it stands at the start of a line. */
#include "team/decision.h"
#include "team/text.h"

struct cursor {
    const char *p, *end;
};

static bool folds_to(uint32_t cp, char letter)
{
    return js_lower_char(cp) == (uint32_t)letter || (cp == 0x17f && letter == 's');
}

/* Moves the cursor behind `label` when it stands there. */
static bool take_label(struct cursor *at, const char *label)
{
    const char *p = at->p;
    unsigned    n;
    for (; *label; label++, p += n)
        if (p == at->end || !folds_to(js_char(p, at->end, &n), *label))
            return false;
    at->p = p;
    return true;
}

static void skip_spaces(struct cursor *at)
{
    unsigned n;
    while (at->p < at->end && js_is_space(js_char(at->p, at->end, &n)))
        at->p += n;
}

static const char *line_end(struct cursor at)
{
    unsigned n;
    while (at.p < at.end && !js_is_line_end(js_char(at.p, at.end, &n)))
        at.p += n;
    return at.p;
}

/* The start of the next line, or false at the end of the text. */
static bool next_line(struct cursor *at)
{
    at->p = line_end(*at);
    if (at->p == at->end)
        return false;
    unsigned n;
    js_char(at->p, at->end, &n);
    at->p += n;
    return true;
}

/* \s*(.+)$ behind a label. The white space is greedy and gives back only what .+ needs: when nothing else is left, the last
 * white space that is no line end is the value, and a value of white space is trimmed to nothing. */
static bool match_line(struct cursor at, struct span *ret)
{
    struct cursor value = at;
    skip_spaces(&value);
    if (value.p < value.end) {
        *ret = js_trim(span_make(value.p, (size_t)(line_end(value) - value.p)));
        return true;
    }
    unsigned n;
    for (; at.p < at.end; at.p += n)
        if (!js_is_line_end(js_char(at.p, at.end, &n))) {
            *ret = SPAN_NONE;
            return true;
        }
    return false;
}

/* \s*(contribute|abstain)$ */
static bool match_participation(struct cursor at, struct span *ret)
{
    static const char *const words[] = { "contribute", "abstain" };
    skip_spaces(&at);
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        struct cursor behind = at;
        if (take_label(&behind, words[i]) && behind.p == line_end(behind)) {
            *ret = span_make(at.p, (size_t)(behind.p - at.p));
            return true;
        }
    }
    return false;
}

/* \s*\n([\s\S]*)$: white space with a line feed in it, then everything. Greedy: the capture begins behind the last line feed of
 * the white space; what is trimmed anyway does not matter. */
static bool match_contribution(struct cursor at, struct span *ret)
{
    struct cursor value = at;
    skip_spaces(&value);
    if (!memchr(at.p, '\n', (size_t)(value.p - at.p)))
        return false;
    *ret = js_trim(span_make(value.p, (size_t)(at.end - value.p)));
    return true;
}

/* The first line that begins with `label` and whose rest matches. */
static bool find(struct span text, const char *label, bool (*match)(struct cursor at, struct span *ret), struct span *ret)
{
    struct cursor line = { text.p, text.n ? text.p + text.n : text.p };
    do {
        struct cursor at = line;
        if (take_label(&at, label) && match(at, ret))
            return true;
    } while (next_line(&line));
    return false;
}

bool team_decision_parse(struct span text, struct team_decision *ret)
{
    struct team_decision decision = { 0 };
    struct span          participation = SPAN_NONE;
    if (!find(text, "role_selected:", match_line, &decision.role) ||
        !find(text, "participation:", match_participation, &participation) ||
        !find(text, "rationale:", match_line, &decision.rationale) ||
        !find(text, "contribution:", match_contribution, &decision.contribution))
        return false;
    if (!decision.role.n || !decision.rationale.n || !decision.contribution.n)
        return false;
    decision.abstains = span_is(participation, "abstain");
    if (!decision.abstains && !span_is(participation, "contribute"))
        return false;
    *ret = decision;
    return true;
}

void team_decision_to_json(const struct team_decision *decision, struct jw *w)
{
    jw_obj(w);
    jw_key(w, "selectedRole");
    jw_str(w, decision->role);
    jw_key(w, "participation");
    jw_cstr(w, decision->abstains ? "abstain" : "contribute");
    jw_key(w, "rationale");
    jw_str(w, decision->rationale);
    jw_key(w, "contribution");
    jw_str(w, decision->contribution);
    jw_end(w);
}
