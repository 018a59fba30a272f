//! How fast a source comes in while its upload runs, and how long its chunks are then.

use super::part;

/// A chunk should be no longer than this, in milliseconds, unless its segments are.
const CHUNK_MS: u64 = 16_000;

/// While a source comes in, a chunk should have come within this, in milliseconds: slots that wait for it do nothing.
const CHUNK_COMES_MS: u64 = 4_000;

/// What has come of a source until now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inflow {
    /// So many bytes.
    pub bytes: u64,
    /// The index speaks of so many.
    pub of: u64,
    /// There will be so many, where that is known.
    pub length: Option<u64>,
    /// In so many milliseconds.
    pub within_ms: u64,
}

impl Inflow {
    /// Bytes that are still to come after the first `there`, where that is known.
    pub(super) fn rest(&self, there: u64) -> Option<u64> {
        self.length.map(|length| length.saturating_sub(there))
    }
}

/// How long a chunk should be at most, in milliseconds, of a source whose index speaks of `length_ms`.
pub(super) fn chunk_ms(inflow: Option<Inflow>, length_ms: u64) -> u64 {
    let Some(Inflow { bytes, of, within_ms, .. }) = inflow else { return CHUNK_MS };
    part(part(length_ms, bytes, of), CHUNK_COMES_MS, within_ms).min(CHUNK_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_in_four_seconds() {
        let of_a_minute =
            |bytes, within_ms| chunk_ms(Some(Inflow { bytes, of: 60_000, length: None, within_ms }), 60_000);
        // A minute that takes a minute, half of one, an instant, and none any more.
        assert_eq!(of_a_minute(6_000, 6_000), 4_000);
        assert_eq!(of_a_minute(6_000, 3_000), 8_000);
        assert_eq!(of_a_minute(6_000, 0), CHUNK_MS);
        assert_eq!(chunk_ms(None, 60_000), CHUNK_MS);
        // Nobody knows how much of it has come.
        assert_eq!(
            chunk_ms(Some(Inflow { bytes: 1, of: 0, length: None, within_ms: 1_000 }), 60_000),
            CHUNK_MS
        );
    }
}
