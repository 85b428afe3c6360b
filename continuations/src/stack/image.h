#ifndef CONT_STACK_IMAGE_H
#define CONT_STACK_IMAGE_H

#include "stack/stack.h"

/* The live part of a stack, in a heap block: what differs from stacks that are like it (delta.h).
 *
 *      stack   | guard |      no pages          | from ....... base |
 *                                               \               /
 *      image          | template, sizes | kinds of words | literals |
 *
 * The stack keeps its addresses: nobody else gets them, and the bytes go back to where they
 * were.  Who may resume the continuation may make, restore or drop its image. */

struct cont__image;

/* Keeps [from, base), from the word on in which `from` is.  The pages stay until
 * cont__run_give_back(), which may be called for many at once; until then, and after it, the
 * image is what counts.  NULL: no memory.
 * Blocks: no.  Allocates: yes, and templates.  Switches: no.  Locks held: any. */
struct cont__image *cont__image_make(struct cont_stack *s, char *from);

/* Puts the bytes back and frees the image; the stack has a guard again.
 * Blocks: no.  Allocates: no (the kernel does, pages).  Switches: no.  Locks held: any. */
void cont__image_restore(struct cont__image *image, struct cont_stack *s);

/* Frees the image of a stack that will be released. */
void cont__image_drop(struct cont__image *image, struct cont_stack *s);

/* How many there are, and the bytes in them; approximate while they change. */
size_t cont__image_count(void);
size_t cont__image_bytes(void);

/* Tests: the next `n` images can be had, those after cannot.  Negative: all can. */
void cont__image_fail_after(int n);

#endif
