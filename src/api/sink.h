/* SPDX-License-Identifier: Apache-2.0 */
/* sink.h - a connection that follows a stream: from a follower of the ledger to a socket of the server. */
#pragma once
#include "api/inner.h"

/* False: the call was answered (too many streams, HTTP/1.0, shutting down). */
bool sink_allowed(struct call *call);
/* Answers 200 with call->headers (and X-Request-Id) and lets the follower write to the connection. Ends the call. `over` (may be
 * NULL) is called once, when the connection or the follower is gone. */
void sink_begin(struct call *call, struct follower *follower, void (*over)(void *user), void *user);
/* The same, with whole HTTP chunks that go out before anything of the follower; they are taken over. The connection ends cleanly
 * behind the follower's `left`-th chunk; those of a few bytes, which mean nothing, do not count. left -1: no limit. */
void sink_begin_behind(struct call *call, struct follower *follower, struct buf first, int64_t left);
