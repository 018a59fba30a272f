//! How fast a source comes in while its upload runs.

use super::part;

/// While a source comes in, a chunk should have come within this, in milliseconds: slots that wait for it do nothing.
const CHUNK_COMES_MS: u64 = 4_000;

/// What has come of a source until now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// So many bytes.
    pub bytes: u64,
    /// The index speaks of so many.
    pub of: u64,
    /// In so many milliseconds.
    pub within_ms: u64,
}

impl Pace {
    /// How long a chunk is at most, in milliseconds, of a source whose index speaks of `length_ms`.
    pub(super) fn chunk_ms(self, length_ms: u64) -> u64 {
        part(part(length_ms, self.bytes, self.of), CHUNK_COMES_MS, self.within_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_in_four_seconds() {
        let pace = |bytes, within_ms| Pace { bytes, of: 60_000, within_ms };
        // A minute that takes a minute, half of one, and an instant.
        assert_eq!(pace(6_000, 6_000).chunk_ms(60_000), 4_000);
        assert_eq!(pace(6_000, 3_000).chunk_ms(60_000), 8_000);
        assert!(pace(6_000, 0).chunk_ms(60_000) > 3_600_000);
        // Of what nobody knows the length of, none is too long.
        assert_eq!(Pace { bytes: 1, of: 0, within_ms: 1_000 }.chunk_ms(60_000), 240_000);
    }
}
