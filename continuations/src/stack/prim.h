#ifndef CONT_STACK_PRIM_H
#define CONT_STACK_PRIM_H

/* What stacks ask of the operating system: all of it.  A port writes one more file like
 * prim_linux.c.  Addresses and sizes are multiples of the page size. */

#include <stddef.h>

size_t cont__prim_page_size(void);

/* Addresses, aligned to `align` (a power of two), that cost nothing but themselves and
 * fault when touched.  NULL: there are none. */
void *cont__prim_reserve(size_t size, size_t align);

/* Returns reserved addresses to the system. */
void cont__prim_unreserve(void *at, size_t size);

/* Makes reserved addresses usable: zeros that take memory when they are touched, in
 * pages of the smallest size.  0 or -ENOMEM. */
int cont__prim_commit(void *at, size_t size);

/* Gives pages back.  They read as zeros; guards stay.  Cannot fail: where the system
 * refuses, the pages merely stay. */
void cont__prim_purge(void *at, size_t size);

/* As purge, and also drops guards and the page tables.  0, or -ENOMEM if that could not be
 * done; then the addresses were purged and the guards stand. */
int cont__prim_renew(void *at, size_t size);

enum cont__guard_result {
    CONT__GUARD_NONE,           /* no guard could be had                            */
    CONT__GUARD_LIGHT,          /* costs a page table entry                         */
    CONT__GUARD_MAPPING,        /* costs two mappings of a limited number: give it  */
};                              /* back with cont__prim_unguarded()                 */

/* Makes accesses to [at, at + size) fault. */
enum cont__guard_result cont__prim_guard(void *at, size_t size);

/* `n` guards that were mappings are gone (renewed). */
void cont__prim_unguarded(unsigned n);

/* Tests: the next `n` calls of reserve, commit and renew go through, those after fail.
 * Negative: none is made to fail. */
void cont__prim_fail_after(int n);

/* Tests: no light guards, and at most `mappings` others. */
void cont__prim_limit_guards(int mappings);

#endif
