#ifndef CONT_CONT_INTERNAL_H
#define CONT_CONT_INTERNAL_H

#include "continuations/cont.h"

/* True if the fields of `c` agree with its state.  For assertions and tests; meaningful
 * only to who may resume `c`. */
int cont__is_valid(const struct cont *c);

/* As cont_freeze() for one, but the pages stay, poisoned in the hard build.  0 or -ENOMEM. */
int cont__freeze_in_place(struct cont *c);

/* Hard build: fills the dead bytes below a suspended continuation, and looks at them. */
#ifdef CONT_HARD
void cont__poison(struct cont *c);
void cont__check_poison(struct cont *c);
#else
static inline void cont__poison(struct cont *c) { (void)c; }
static inline void cont__check_poison(struct cont *c) { (void)c; }
#endif

#endif
