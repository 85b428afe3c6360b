#ifndef CONT_STACK_DELTA_H
#define CONT_STACK_DELTA_H

#include <stddef.h>
#include <stdint.h>

/* The words of a stack, as their differences from those of another one, the template.
 *
 * Threads that wait for the same are alike.  Of the 264 words of one that waits for a lock below
 * a C function, 153 are the same in all (return addresses, constants, zeros), and 37 at the same
 * distance from the stack's base (saved frame pointers, addresses of locals).  So there are two
 * bits for each word, and only the others are kept:
 *
 *      SAME        as the template's; without a template, zero
 *      SHIFTED     as the template's, but for the distance of the two stacks
 *      LITERAL     the next of those that are kept
 *
 * A template is the copy of the first stack of its kind.  It is never freed, since images refer
 * to it; there are CONT__TEMPLATES at most, after which stacks of other kinds are kept with no
 * template.  All functions here may read a stack that nobody runs on, red zones included. */

#define CONT__TEMPLATES 64

/* Bits of so many words, in words. */
#define CONT__DELTA_KINDS(n) (((n) + 31) / 32)

struct cont__template;

/* One for the n words from w on, where the stack's base is w + n; NULL: none.
 * Blocks: no.  Allocates: at times, and does without where there is no memory. */
const struct cont__template *cont__template_for(const uint64_t *w, size_t n);

/* How many words have to be kept. */
size_t cont__delta_literals(const struct cont__template *t, const uint64_t *w, size_t n);

/* `kinds` has CONT__DELTA_KINDS(n) words, `literals` as many as there have to be. */
void cont__delta_encode(const struct cont__template *t, const uint64_t *w, size_t n,
                        uint64_t *kinds, uint64_t *literals);
void cont__delta_decode(const struct cont__template *t, uint64_t *w, size_t n,
                        const uint64_t *kinds, const uint64_t *literals);

#endif
