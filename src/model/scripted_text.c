/* SPDX-License-Identifier: Apache-2.0 */
/* scripted_text.c - what the scripted model says when nobody wrote it a text: a few paragraphs about what it was told.
 *
 * Pure: the text depends on the prompt and on nothing else, so that a run can be replayed on any machine. It only counts and
 * quotes. A prompt is looked at as far as PROMPT_MAX. */
#include "base/utf8.h"
#include "model/provider.h"
#include <stdlib.h>

enum { PROMPT_MAX = 65536, TERMS_MAX = 512, TERM_BYTES_MAX = 48, TERM_CHARS_MIN = 4, QUOTE_WORDS = 12, QUOTE_BYTES = 120 };

struct term {
    char     text[TERM_BYTES_MAX]; /* ASCII letters in lower case */
    unsigned n, chars, count, first;
};

struct study {
    uint64_t    words, sentences;
    unsigned    term_count;
    struct term terms[TERMS_MAX]; /* distinct longer words; after rank_terms the most frequent first */
};

static bool is_blank(char c)
{
    return (unsigned char)c <= 0x20;
}

uint64_t text_words(struct span text)
{
    uint64_t words = 0;
    bool     inside = false;
    for (size_t i = 0; i < text.n; i++) {
        bool blank = is_blank(text.p[i]);
        words += !blank && !inside;
        inside = !blank;
    }
    return words;
}

static bool ends_sentence(char c)
{
    return c == '.' || c == '!' || c == '?';
}

static uint64_t count_sentences(struct span text)
{
    uint64_t sentences = 0;
    bool     open = false;
    for (size_t i = 0; i < text.n; i++) {
        if (ends_sentence(text.p[i])) {
            sentences += open && (i + 1 == text.n || is_blank(text.p[i + 1]));
            open = open && !(i + 1 == text.n || is_blank(text.p[i + 1]));
        } else if (!is_blank(text.p[i])) {
            open = true;
        }
    }
    return sentences + open;
}

/* Letters of ASCII, and beyond it everything but spaces and punctuation of the blocks that prose uses. */
static bool is_letter(uint32_t cp)
{
    if (cp < 0x80)
        return (cp | 0x20) >= 'a' && (cp | 0x20) <= 'z';
    return cp >= 0xc0 && !(cp >= 0x2000 && cp <= 0x2bff) && !(cp >= 0x3000 && cp <= 0x303f) && !(cp >= 0xff00 && cp <= 0xff20);
}

static bool is_common(const struct term *term)
{
    static const char *const common[] = {
        "about", "after", "again", "against", "also", "because", "been", "before", "being", "between", "both", "came",
        "come", "could", "does", "done", "during", "each", "even", "every", "first", "from", "give", "goes", "have",
        "here", "into", "just", "know", "like", "made", "make", "many", "more", "most", "much", "must", "once", "only",
        "other", "over", "please", "same", "should", "since", "some", "such", "tell", "than", "that", "their", "them",
        "then", "there", "these", "they", "thing", "things", "this", "those", "through", "under", "until", "upon",
        "very", "want", "well", "were", "what", "when", "where", "which", "while", "whose", "will", "with", "within",
        "without", "would", "write", "your", "yours",
    };
    for (size_t i = 0; i < ARRAY_LEN(common); i++)
        if (span_is(span_make(term->text, term->n), common[i]))
            return true;
    return false;
}

static void add_term(struct study *study, const struct term *term)
{
    if (term->chars < TERM_CHARS_MIN || is_common(term))
        return;
    for (unsigned i = 0; i < study->term_count; i++) {
        struct term *known = &study->terms[i];
        if (span_eq(span_make(known->text, known->n), span_make(term->text, term->n))) {
            known->count++;
            return;
        }
    }
    if (study->term_count < TERMS_MAX) {
        study->terms[study->term_count] = *term;
        study->terms[study->term_count].count = 1;
        study->terms[study->term_count].first = study->term_count;
        study->term_count++;
    }
}

static void find_terms(struct study *study, struct span text)
{
    struct term term = { .n = 0 };
    bool        fits = true;
    for (const char *p = text.p, *end = text.p + text.n; p < end;) {
        uint32_t cp = 0;
        unsigned n = utf8_decode(p, end, true, &cp);
        if (n && is_letter(cp)) {
            fits = fits && term.n + n <= sizeof term.text;
            for (unsigned i = 0; fits && i < n; i++)
                term.text[term.n++] = n == 1 ? (char)(p[i] | 0x20) : p[i];
            term.chars++;
        } else {
            if (fits)
                add_term(study, &term);
            term = (struct term){ .n = 0 };
            fits = true;
        }
        p += n ? n : 1;
    }
    if (fits)
        add_term(study, &term);
}

static int by_frequency(const void *left, const void *right)
{
    const struct term *a = left, *b = right;
    if (a->count != b->count)
        return a->count < b->count ? 1 : -1;
    return a->first < b->first ? -1 : a->first > b->first;
}

static const struct term *longest_term(const struct study *study)
{
    const struct term *longest = NULL;
    for (unsigned i = 0; i < study->term_count; i++) {
        const struct term *term = &study->terms[i];
        if (!longest || term->chars > longest->chars || (term->chars == longest->chars && term->first < longest->first))
            longest = term;
    }
    return longest;
}

/* The beginning on one line: at most QUOTE_WORDS words and QUOTE_BYTES bytes. */
static void put_quote(struct buf *out, struct span text)
{
    size_t   from = out->len, i = 0;
    unsigned words = 0;
    while (i < text.n && out->len - from < QUOTE_BYTES) {
        while (i < text.n && is_blank(text.p[i]))
            i++;
        if (i == text.n || words == QUOTE_WORDS)
            break;
        if (words++)
            buf_byte(out, ' ');
        while (i < text.n && !is_blank(text.p[i]) && out->len - from < QUOTE_BYTES)
            buf_byte(out, text.p[i++]);
    }
    out->len = from + utf8_cut(out->p + from, out->len - from);
    while (i < text.n && is_blank(text.p[i]))
        i++;
    if (i < text.n)
        BUF_LIT(out, "…");
}

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

static void put_opening(struct buf *out, const struct study *study, struct span text)
{
    BUF_LIT(out, "You wrote: “");
    put_quote(out, text);
    buf_printf(out, "”. I counted %llu word%s in %llu sentence%s before I began, and I mean to stay close to them.\n\n",
               (unsigned long long)study->words, plural(study->words), (unsigned long long)study->sentences,
               plural(study->sentences));
}

static void put_term(struct buf *out, const struct term *term)
{
    buf_printf(out, "“%.*s”", (int)term->n, term->text);
}

static void put_repeated(struct buf *out, const struct study *study)
{
    const struct term *top = study->terms;
    BUF_LIT(out, "One word returns more often than the others: ");
    put_term(out, top);
    buf_printf(out, ", which you used %u times. ", top->count);
    if (study->term_count > 1) {
        BUF_LIT(out, "Next to it stands ");
        put_term(out, top + 1);
        if (study->term_count > 2) {
            BUF_LIT(out, ", and a little further back ");
            put_term(out, top + 2);
        }
        BUF_LIT(out, ". ");
    }
    BUF_LIT(out, "What is said more than once is usually what matters, so I take it for the subject.\n\n");
}

static void put_distinct(struct buf *out, const struct study *study)
{
    BUF_LIT(out, "No longer word comes twice. ");
    if (study->term_count == 0) {
        BUF_LIT(out, "In fact there is no longer word at all, which makes for a brisk message and a short study.\n\n");
        return;
    }
    BUF_LIT(out, "What stands out is ");
    for (unsigned i = 0; i < study->term_count && i < 3; i++) {
        if (i)
            buf_span(out, i + 1 == study->term_count || i == 2 ? SPAN(" and ") : SPAN(", "));
        put_term(out, &study->terms[i]);
    }
    if (study->term_count == 1)
        BUF_LIT(out, ", and it stands alone, so I take it for the subject.\n\n");
    else
        BUF_LIT(out, ", in the order in which you said it, so that is the order in which I think about it.\n\n");
}

static void put_measure(struct buf *out, const struct study *study)
{
    const struct term *longest = longest_term(study);
    uint64_t           seconds = (study->words * 60 + 149) / 150;
    if (longest) {
        BUF_LIT(out, "The longest word you chose is ");
        put_term(out, longest);
        buf_printf(out, " with %u letters. ", longest->chars);
    }
    buf_printf(out, "Read aloud at an easy pace, all of it would take about %llu second%s", (unsigned long long)seconds,
               plural(seconds));
    if (study->term_count > 1)
        buf_printf(out, "; there are %u different longer words to weigh", study->term_count);
    BUF_LIT(out, ".\n\n");
}

static void put_closing(struct buf *out)
{
    BUF_LIT(out, "That is all a scripted model can do: it counts, it quotes, and it gives the same answer to the same words on "
                 "every machine, without a key and without a network. But each word of this left as an event of its own and was "
                 "written down before you saw it. Stop the server in the middle of this sentence, start it again, and the rest "
                 "arrives here: nothing lost, nothing twice.");
}

void scripted_paragraphs(struct span prompt, struct buf *out)
{
    struct span text = prompt;
    if (text.n > PROMPT_MAX)
        text.n = utf8_cut(text.p, PROMPT_MAX);

    struct study *study = mem_alloc(sizeof *study);
    study->words = text_words(text);
    if (study->words == 0) {
        BUF_LIT(out, "You sent me no words, so there is nothing to count and nothing to quote.\n\n");
    } else {
        study->sentences = count_sentences(text);
        find_terms(study, text);
        qsort(study->terms, study->term_count, sizeof study->terms[0], by_frequency);
        put_opening(out, study, text);
        if (study->term_count && study->terms[0].count > 1)
            put_repeated(out, study);
        else
            put_distinct(out, study);
        put_measure(out, study);
    }
    put_closing(out);
    free(study);
}
