/* cont__switch for the procedure call standard of aarch64 (AAPCS64).
 *
 * A context that does not run, on its own stack:
 *
 *        sp + 176  | ...                         | <- stack pointer after the return
 *        sp + 168  | fpcr                        |
 *        sp + 160  | d15                         |
 *        sp + 144  | d13, d14                    |
 *        sp + 128  | d11, d12                    |
 *        sp + 112  | d9, d10                     |
 *        sp +  96  | x28, d8                     |
 *        sp +  80  | x26, x27                    |
 *        sp +  64  | x24, x25                    |
 *        sp +  48  | x22, x23                    |
 *        sp +  32  | x20, x21   x20: arg, if new |
 *        sp +  16  | x30, x19   return address; x19: entry, if new
 *        sp +   0  | x29        frame pointer, and 8 bytes unused  | <- the context
 *
 * Only the low halves of v8 to v15 are callee-saved.  fpcr (rounding, traps) is the
 * thread's in the procedure call standard; it is kept per context for the same meaning as
 * on x86-64.  Writing it is slow, so it is written only when it differs.  fpsr, the sticky
 * status, is not kept.  x18 is the platform's and is left alone.
 *
 * Pointer authentication: callers sign x30 with their own sp as the modifier, which is the
 * same when they are entered again; nothing to do.  BTI: the file says so in its note.
 * Guarded control stacks are not supported, and the note does not claim them. */

#define BTI_C hint #34                  /* bti c; a nop on older processors */

        .text

/* void cont__switch(void **save, void *to) */
        .globl  cont__switch
        .hidden cont__switch
        .type   cont__switch, %function
        .balign 32
cont__switch:
        .cfi_startproc
        BTI_C                           // may be called through a pointer
        sub     sp, sp, #176            // the whole frame at once
        .cfi_adjust_cfa_offset 176
        str     x29, [sp]               // the caller's frame pointer
        .cfi_rel_offset x29, 0
        stp     x30, x19, [sp, #16]     // where to return to
        .cfi_rel_offset x30, 16
        .cfi_rel_offset x19, 24
        stp     x20, x21, [sp, #32]
        .cfi_rel_offset x20, 32
        .cfi_rel_offset x21, 40
        stp     x22, x23, [sp, #48]
        .cfi_rel_offset x22, 48
        .cfi_rel_offset x23, 56
        stp     x24, x25, [sp, #64]
        .cfi_rel_offset x24, 64
        .cfi_rel_offset x25, 72
        stp     x26, x27, [sp, #80]
        .cfi_rel_offset x26, 80
        .cfi_rel_offset x27, 88
        str     x28, [sp, #96]
        .cfi_rel_offset x28, 96
        str     d8, [sp, #104]
        .cfi_rel_offset b8, 104
        stp     d9, d10, [sp, #112]
        .cfi_rel_offset b9, 112
        .cfi_rel_offset b10, 120
        stp     d11, d12, [sp, #128]
        .cfi_rel_offset b11, 128
        .cfi_rel_offset b12, 136
        stp     d13, d14, [sp, #144]
        .cfi_rel_offset b13, 144
        .cfi_rel_offset b14, 152
        str     d15, [sp, #160]
        .cfi_rel_offset b15, 160
        mrs     x9, fpcr                // rounding mode and traps
        str     x9, [sp, #168]
        mov     x10, sp
        str     x10, [x0]               // the left context is complete ...
        mov     sp, x1                  // ... and this is the entered one
        ldr     x10, [sp, #168]
        cmp     x9, x10                 // does fpcr differ?
        b.ne    .Lload_fpcr
.Lfpcr_done:
        ldr     x29, [sp]               // 0 in a new context: its frames end here
        ldp     x30, x19, [sp, #16]
        ldp     x20, x21, [sp, #32]
        ldp     x22, x23, [sp, #48]
        ldp     x24, x25, [sp, #64]
        ldp     x26, x27, [sp, #80]
        ldr     x28, [sp, #96]
        ldr     d8, [sp, #104]
        ldp     d9, d10, [sp, #112]
        ldp     d11, d12, [sp, #128]
        ldp     d13, d14, [sp, #144]
        ldr     d15, [sp, #160]
        add     sp, sp, #176
        .cfi_remember_state
        .cfi_adjust_cfa_offset -176
        .cfi_restore x29
        .cfi_restore x30
        .cfi_restore x19
        .cfi_restore x20
        .cfi_restore x21
        .cfi_restore x22
        .cfi_restore x23
        .cfi_restore x24
        .cfi_restore x25
        .cfi_restore x26
        .cfi_restore x27
        .cfi_restore x28
        .cfi_restore b8
        .cfi_restore b9
        .cfi_restore b10
        .cfi_restore b11
        .cfi_restore b12
        .cfi_restore b13
        .cfi_restore b14
        .cfi_restore b15
        ret                             // to whoever called switch there, or to start

        .cfi_restore_state
.Lload_fpcr:
        msr     fpcr, x10
        b       .Lfpcr_done
        .cfi_endproc
        .size   cont__switch, . - cont__switch

/* void *cont__switch_make(void *base, void *limit, void (*entry)(void *), void *arg) */
        .globl  cont__switch_make
        .hidden cont__switch_make
        .type   cont__switch_make, %function
        .balign 16
cont__switch_make:
        .cfi_startproc
        BTI_C
        and     x0, x0, #-16            // sp must always be a multiple of 16
        sub     x0, x0, #192            // 176 of context, 16 for the end of the chain
        stp     xzr, xzr, [x0]          // x29: 0 ends a walk along the frame pointers
        adrp    x9, cont__start
        add     x9, x9, :lo12:cont__start
        stp     x9, x2, [x0, #16]       // x30: where the first switch returns to; x19: entry
        stp     x3, xzr, [x0, #32]      // x20: arg
        stp     xzr, xzr, [x0, #48]     // everything else: 0
        stp     xzr, xzr, [x0, #64]
        stp     xzr, xzr, [x0, #80]
        stp     xzr, xzr, [x0, #96]
        stp     xzr, xzr, [x0, #112]
        stp     xzr, xzr, [x0, #128]
        stp     xzr, xzr, [x0, #144]
        mrs     x9, fpcr                // as it is here
        stp     xzr, x9, [x0, #160]
        stp     xzr, xzr, [x0, #176]    // a frame record of zeros, for walkers that look
        ret                             // one frame further
        .cfi_endproc
        .size   cont__switch_make, . - cont__switch_make

/* The outermost frame. */
        .type   cont__start, %function
        .balign 16
cont__start:
        .cfi_startproc
        .cfi_undefined x30              // unwinders stop here
        .cfi_undefined x29
        nop                             // some unwinders look up return address - 1
        mov     x0, x20                 // arg
        blr     x19                     // entry
        brk     #1                      // entry must not return
        .cfi_endproc
        .size   cont__start, . - cont__start

/* aarch64 feature property: BTI and PAC, not GCS. */
        .section .note.gnu.property, "a", %note
        .balign 8
        .long   4, 16, 5
        .asciz  "GNU"
        .long   0xc0000000, 4, 3, 0

        .section .note.GNU-stack, "", %progbits
