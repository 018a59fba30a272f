//! NAL units of H.264 and HEVC: as encoders hand them out (Annex B of both), and as MP4 holds them (ISO 14496-15 §4.3.2).

/// NAL units between start codes, trailing zeros removed.
pub fn units(annex_b: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(annex_b);
    std::iter::from_fn(move || {
        let from = rest?;
        let end = (0..from.len().saturating_sub(2))
            .find(|i| from[*i..].starts_with(&[0, 0, 1]))
            .unwrap_or(from.len());
        rest = after_start_code(&from[end..]);
        let trimmed = from[..end].iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
        Some(&from[..trimmed])
    })
    .filter(|unit| !unit.is_empty())
}

fn after_start_code(bytes: &[u8]) -> Option<&[u8]> {
    (0..bytes.len().saturating_sub(2)).find(|i| bytes[*i..].starts_with(&[0, 0, 1])).map(|i| &bytes[i + 3..])
}

/// The units that `keep` wants, with four-byte lengths instead of start codes.
pub fn length_prefixed(annex_b: &[u8], keep: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(annex_b.len() + 8);
    for unit in units(annex_b).filter(|unit| keep(unit)) {
        out.extend_from_slice(&(unit.len() as u32).to_be_bytes());
        out.extend_from_slice(unit);
    }
    out
}

/// A unit without its emulation prevention bytes: the 3 after two zeros.
pub fn unescaped(unit: &[u8]) -> Vec<u8> {
    let mut zeros = 0;
    let kept = unit.iter().copied().filter(|byte| {
        let keep = zeros < 2 || *byte != 3;
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        keep
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulation_prevention_goes() {
        assert_eq!(unescaped(&[0, 0, 3, 1, 0, 0, 3, 0, 0, 3, 3, 3]), [0, 0, 1, 0, 0, 0, 0, 3, 3]);
    }

    #[test]
    fn units_lie_between_start_codes_of_both_lengths() {
        let bytes = [9, 0, 0, 0, 1, 5, 6, 0, 0, 1, 7, 0, 0, 0, 0, 1, 8];
        assert_eq!(units(&bytes).collect::<Vec<_>>(), [&[5, 6][..], &[7], &[8]]);
    }
}
