//! What the compiler, or the verifier, must not know about a number.

use core::arch::asm;

/// The same number, but the compiler no longer knows where it comes from.
///
/// It then keeps a bounds check that it could prove needless, and tests the very register that it
/// uses: the verifier cannot follow such proofs, and that of kernel 6.1 does not see that a copy on
/// the stack is bounded too.
#[inline(always)]
pub(super) fn opaque(mut number: u64) -> u64 {
    // SAFETY: the instruction changes nothing.
    unsafe { asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack, preserves_flags)) };
    number
}

/// Zeros of which the compiler does not know that they are: it would write such by a call.
#[inline(always)]
pub(super) fn zeros<const N: usize>() -> [u64; N] {
    [opaque(0); N]
}

/// The same number; the compiler reads nothing that comes after before it.
#[inline(always)]
pub(super) fn before_what_follows(mut number: u64) -> u64 {
    // SAFETY: the instruction changes nothing. Without `nomem`, no access to memory crosses it.
    unsafe { asm!("{0} = {0}", inout(reg) number, options(nostack, preserves_flags)) };
    number
}

/// What comes after reads memory anew, so that nothing of it is kept on the stack meanwhile.
#[inline(always)]
pub(super) fn forget_memory() {
    before_what_follows(0);
}

/// The same number, but the verifier no longer knows which it is, given another that it does not
/// know: what was mixed with that is unknown too, and stays so when it is mixed out again.
#[inline(always)]
pub(super) fn forgotten(mut number: u64, unknown: u64) -> u64 {
    // SAFETY: the instructions change nothing but the register.
    unsafe {
        asm!(
            "{0} ^= {1}",
            "{0} ^= {1}",
            inout(reg) number,
            in(reg) unknown,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    number
}
