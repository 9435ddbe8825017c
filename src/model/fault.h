/* SPDX-License-Identifier: Apache-2.0 */
/* fault.h - what a provider calls an error, in our classes (inner header of src/model).
 *
 * class           code                       category     tried again
 * key             authentication_failed      auth         no
 * permission      permission_denied          auth         no
 * money           quota_exceeded             rate_limit   no
 * rate            rate_limited               rate_limit   yes, Retry-After
 * no such model   not_found                  not_found    no
 * request         invalid_request            validation   no
 * too long        context_length_exceeded    validation   no
 * too large       request_too_large          validation   no
 * content         content_filter             model        no
 * time            timeout                    timeout      yes
 * overload        overloaded                 provider     yes, Retry-After
 * their fault     provider_error             provider     yes, Retry-After
 * anything else   provider_rejected          provider     no */
#pragma once
#include "model/provider.h"

enum { RETRY_AFTER_MAX_MS = 86400000 };

/* {"error": {"message", "type", "code"}} and its relatives: "error" may be a text, and the object may be the error itself. */
struct provider_fault {
    struct span message, code, type;
    int         status; /* a code that is a number; 0: none */
};

/* Texts lie in the document or the arena. */
struct provider_fault fault_read(struct jv body, struct arena *arena);
/* `status` is the response's, or 0 when the error came in a stream. A status wins over what the body calls it, but for names
 * that say more than their status. `retry_after_ms` below 0: not told. Texts of the result are those of `fault` or in `arena`;
 * they have not been cleaned (provider_clean_text). */
struct failure fault_class(const struct provider_fault *fault, int status, int64_t retry_after_ms, struct arena *arena);
struct failure failure_of(const char *code, const char *category, bool retryable, const char *message);
/* Milliseconds from the headers Retry-After (`seconds`: number or date, already read; -1: none) and retry-after-ms (may be
 * empty), at most RETRY_AFTER_MAX_MS; -1: none. */
int64_t fault_retry_after(int64_t seconds, struct span milliseconds);
