//! Random numbers that nobody has to be kept from guessing: for ids and for failures on purpose.
//!
//! The standard library keys its hash maps from the kernel's generator once a thread and then counts
//! up, so the hash of nothing under a new key is a pseudo-random number of good quality. It needs
//! no file: the crates that ask the kernel through `libc` fall back to `/dev/urandom` in a static
//! binary, and an image may hold no `/dev`.

use std::hash::{BuildHasher, Hasher, RandomState};

/// 64 random bits.
pub fn bits() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// True in so many per cent of the calls.
pub fn happens(percent: u8) -> bool {
    bits() % 100 < u64::from(percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six standard deviations: a good generator fails this once in 500 million runs.
    #[test]
    fn every_bit_is_set_half_of_the_time() {
        const CALLS: i32 = 10_000;
        let mut set = [0; 64];
        for _ in 0..CALLS {
            let bits = bits();
            for (bit, count) in set.iter_mut().enumerate() {
                *count += i32::from(bits >> bit & 1 == 1);
            }
        }
        for (bit, count) in set.into_iter().enumerate() {
            assert!(
                (count - CALLS / 2).abs() < 300,
                "bit {bit}: {count} of {CALLS}"
            );
        }
    }

    #[test]
    fn never_and_always_are_exact() {
        assert!(!(0..10_000).any(|_| happens(0)));
        assert!((0..10_000).all(|_| happens(100)));
    }
}
