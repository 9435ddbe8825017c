/* SPDX-License-Identifier: Apache-2.0 */
/* util.h - the three macros every file uses. */
#pragma once
#include <assert.h> /* assertions stay on in release builds: NDEBUG is never defined */
#include <stddef.h>
#include <stdint.h>

#define CLEANUP(fn)   __attribute__((cleanup(fn)))
#define PRINTF(f, a)  __attribute__((format(printf, f, a)))
#define MUST_USE      __attribute__((warn_unused_result))
#define ARRAY_LEN(a)  (sizeof(a) / sizeof((a)[0]))
/* Takes a pointer out of an owner: the owner is left NULL. */
#define TAKE(p)       ({ __typeof__(p) taken_ = (p); (p) = NULL; taken_; })
#define CONTAINER(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))
