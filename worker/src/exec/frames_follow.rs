//! Sound without a file header is known by frames that follow each other: one header may be chance.

/// Frames that must follow each other, where there is room for so many.
const FRAMES: usize = 3;

/// Whether `head`, the first bytes of a file, are such frames. `header` reads the first `header_bytes` of one: what must be
/// the same in all of them, and how many bytes it has.
pub fn frames_follow<K: PartialEq>(
    head: &[u8],
    header_bytes: usize,
    header: impl Fn(&[u8]) -> Option<(K, usize)>,
) -> bool {
    let mut at = 0;
    let mut first = None;
    for frame in 0..FRAMES {
        let Some(rest) = head.get(at..).filter(|rest| rest.len() >= header_bytes) else {
            return frame > 1;
        };
        let Some((kind, bytes)) = header(rest) else { return false };
        if first.as_ref().is_some_and(|first| *first != kind) {
            return false;
        }
        first.get_or_insert(kind);
        at += bytes;
    }
    true
}
