/* SPDX-License-Identifier: Apache-2.0 */
/* json_number.c - number text to a double and back, exactly, whatever locale the process is in.
 *
 * The point of the C library's formats depends on the locale. So no text with a point is ever handed to it: numbers go
 * in as "digits e exponent", and of what comes out only digits are read. */
#include "base/json_inner.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- reading ---- */

static char digit_at(const struct decimal *d, size_t i)
{
    return i < d->whole.n ? d->whole.p[i] : d->fraction.p[i - d->whole.n];
}

static struct span take_digits(const char **p, const char *end)
{
    const char *from = *p;
    while (*p < end && **p >= '0' && **p <= '9')
        (*p)++;
    return span_make(from, (size_t)(*p - from));
}

/* The exponent, cut at a size that no text of 1 GiB can bring back into range. */
static int64_t read_exponent(const char *p, const char *end)
{
    bool    negative = p < end && *p == '-';
    int64_t value = 0;
    for (p += p < end && (*p == '-' || *p == '+'); p < end; p++)
        if (value < INT64_C(1000000000000))
            value = value * 10 + (*p - '0');
    return negative ? -value : value;
}

struct decimal decimal_of(struct span number)
{
    struct decimal d = { 0 };
    const char    *p = number.p, *end = p + number.n;
    d.negative = p < end && *p == '-';
    p += d.negative;
    d.whole = take_digits(&p, end);
    if (p < end && *p == '.') {
        p++;
        d.fraction = take_digits(&p, end);
    }
    if (p < end)
        d.scale = read_exponent(p + 1, end);

    size_t last = d.whole.n + d.fraction.n;
    while (d.first < last && digit_at(&d, d.first) == '0')
        d.first++;
    while (d.first < last && digit_at(&d, last - 1) == '0')
        last--;
    d.count = last - d.first;
    d.scale += (int64_t)d.whole.n - (int64_t)d.first;
    return d;
}

bool decimal_eq(const struct decimal *a, const struct decimal *b)
{
    if (a->count != b->count)
        return false;
    if (a->count == 0)
        return true; /* zero has no sign and no scale */
    if (a->negative != b->negative || a->scale != b->scale)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (digit_at(a, a->first + i) != digit_at(b, b->first + i))
            return false;
    return true;
}

/* Both parts are exact doubles, and one correctly rounded operation joins them (Clinger's fast path). */
static bool quick_f64(const struct decimal *d, double *ret)
{
    static const double powers[] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                     1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };
    int64_t exponent = d->scale - (int64_t)d->count;
    if (d->count > 15 || exponent < -22 || exponent > 22)
        return false;
    uint64_t digits = 0;
    for (size_t i = 0; i < d->count; i++)
        digits = digits * 10 + (uint64_t)(digit_at(d, d->first + i) - '0');
    *ret = exponent < 0 ? (double)digits / powers[-exponent] : (double)digits * powers[exponent];
    return true;
}

/* No double and no middle between two has more than 767 digits; what follows can only say "a little more". */
enum { DIGITS_THAT_MATTER = 800 };

static double slow_f64(const struct decimal *d)
{
    char   text[DIGITS_THAT_MATTER + 32];
    size_t n = d->count < DIGITS_THAT_MATTER ? d->count : DIGITS_THAT_MATTER;
    for (size_t i = 0; i < n; i++)
        text[i] = digit_at(d, d->first + i);
    if (n < d->count)
        text[n++] = '1';
    snprintf(text + n, sizeof text - n, "e%lld", (long long)(d->scale - (int64_t)n));
    return strtod(text, NULL);
}

bool decimal_to_f64(const struct decimal *d, double *ret)
{
    double v = 0;
    if (d->count && !quick_f64(d, &v))
        v = slow_f64(d);
    if (!isfinite(v))
        return false;
    *ret = d->negative ? -v : v;
    return true;
}

/* ---- writing ---- */

/* digits * 10^exponent, no zeros at the end of digits. */
struct shortest {
    uint64_t digits;
    int      exponent;
};

static struct shortest without_zeros(struct shortest s)
{
    while (s.digits % 10 == 0) {
        s.digits /= 10;
        s.exponent++;
    }
    return s;
}

static struct shortest rounded_to(double v, int precision)
{
    char text[40];
    snprintf(text, sizeof text, "%.*e", precision - 1, v);
    struct shortest s = { 0, 0 };
    const char     *p = text;
    for (; *p != 'e'; p++)
        if (*p >= '0' && *p <= '9')
            s.digits = s.digits * 10 + (uint64_t)(*p - '0');
    s.exponent = atoi(p + 1) - (precision - 1);
    return s;
}

static bool reads_back(struct shortest s, double v)
{
    char text[40];
    snprintf(text, sizeof text, "%llue%d", (unsigned long long)s.digits, s.exponent);
    return strtod(text, NULL) == v;
}

/* The fewest digits that read back as v > 0; of several such texts the one nearest to v (ECMAScript's
 * Number::toString). Any text of at most 15 digits survives the way through a normal double, so shorter ones show as
 * zeros at the end of the 15; subnormals have fewer bits and must be tried one by one. */
static struct shortest shortest_of(double v)
{
    for (int precision = v < DBL_MIN ? 1 : DBL_DIG; precision < DBL_DECIMAL_DIG; precision++) {
        struct shortest s = rounded_to(v, precision);
        if (reads_back(s, v))
            return without_zeros(s);
        /* Below a power of two doubles lie closer together than above: the nearest text may fall out on that side while
         * the next one up is still inside. */
        int exponent;
        s.digits++;
        if (frexp(v, &exponent) == 0.5 && reads_back(s, v))
            return without_zeros(s);
    }
    return without_zeros(rounded_to(v, DBL_DECIMAL_DIG));
}

static void put_zeros(struct buf *out, int n)
{
    while (n-- > 0)
        buf_byte(out, '0');
}

/* `n` digits, the point behind the first `point` of them; both may lie apart. */
static void put_layout(struct buf *out, const char *digits, int n, int point)
{
    if (point > 21 || point <= -6) {
        buf_byte(out, digits[0]);
        if (n > 1)
            buf_byte(out, '.');
        buf_put(out, digits + 1, (size_t)(n - 1));
        buf_printf(out, "e%+d", point - 1);
    } else if (point >= n) {
        buf_put(out, digits, (size_t)n);
        put_zeros(out, point - n);
    } else if (point > 0) {
        buf_put(out, digits, (size_t)point);
        buf_byte(out, '.');
        buf_put(out, digits + point, (size_t)(n - point));
    } else {
        BUF_LIT(out, "0.");
        put_zeros(out, -point);
        buf_put(out, digits, (size_t)n);
    }
}

void json_put_f64(struct buf *out, double v)
{
    if (!isfinite(v)) {
        BUF_LIT(out, "null");
        return;
    }
    if (fabs(v) <= 9007199254740992.0 && v == (double)(int64_t)v) {
        buf_printf(out, "%lld", (long long)v); /* also -0, which is written 0 */
        return;
    }
    if (v < 0)
        buf_byte(out, '-');
    struct shortest s = shortest_of(fabs(v));
    char            digits[24];
    int             n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)s.digits);
    put_layout(out, digits, n, n + s.exponent);
}
