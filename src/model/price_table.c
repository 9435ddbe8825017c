/* SPDX-License-Identifier: Apache-2.0 */
/* price_table.c - list prices of well-known models, in USD per million tokens.
 *
 * What the providers' price pages said at price_table_date, for the standard tier and contexts of ordinary length; writing to
 * the cache is the price of five minutes. Whoever has other terms says so under "prices" of the configuration. */
#include "model/price.h"

const char price_table_date[] = "2026-06";

const struct price_line price_table[] = {
    /* name                          input    read      write    output */
    { "openai/gpt-5.4",              "2.50",  "0.25",   NULL,    "15.00" },
    { "openai/gpt-5.4-mini",         "0.75",  "0.075",  NULL,    "4.50" },
    { "openai/gpt-5.4-nano",         "0.20",  "0.02",   NULL,    "1.25" },
    { "openai/gpt-5.2",              "1.75",  "0.175",  NULL,    "14.00" },
    { "openai/gpt-5.1",              "1.25",  "0.125",  NULL,    "10.00" },
    { "openai/gpt-5",                "1.25",  "0.125",  NULL,    "10.00" },
    { "openai/gpt-5-mini",           "0.25",  "0.025",  NULL,    "2.00" },
    { "openai/gpt-5-nano",           "0.05",  "0.005",  NULL,    "0.40" },
    { "openai/gpt-4.1",              "2.00",  "0.50",   NULL,    "8.00" },
    { "openai/gpt-4.1-mini",         "0.40",  "0.10",   NULL,    "1.60" },
    { "openai/gpt-4.1-nano",         "0.10",  "0.025",  NULL,    "0.40" },
    { "openai/gpt-4o",               "2.50",  "1.25",   NULL,    "10.00" },
    { "openai/gpt-4o-mini",          "0.15",  "0.075",  NULL,    "0.60" },
    { "openai/o3",                   "2.00",  "0.50",   NULL,    "8.00" },
    { "openai/o3-mini",              "1.10",  "0.55",   NULL,    "4.40" },
    { "openai/o4-mini",              "1.10",  "0.275",  NULL,    "4.40" },
    { "anthropic/claude-opus-4-8",   "5.00",  "0.50",   "6.25",  "25.00" },
    { "anthropic/claude-opus-4-6",   "5.00",  "0.50",   "6.25",  "25.00" },
    { "anthropic/claude-opus-4-5",   "5.00",  "0.50",   "6.25",  "25.00" },
    { "anthropic/claude-opus-4-1",   "15.00", "1.50",   "18.75", "75.00" },
    { "anthropic/claude-sonnet-4-6", "3.00",  "0.30",   "3.75",  "15.00" },
    { "anthropic/claude-sonnet-4-5", "3.00",  "0.30",   "3.75",  "15.00" },
    { "anthropic/claude-haiku-4-5",  "1.00",  "0.10",   "1.25",  "5.00" },
    { NULL, NULL, NULL, NULL, NULL },
};
