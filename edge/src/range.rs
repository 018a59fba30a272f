//! The `Range` field (RFC 9110 §14). Pure: text and length in, what to send out.

use http::{HeaderMap, header};

use crate::limits::{PART_BYTES, RANGES};

/// The bytes `start..end` of a representation; never empty unless the representation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl ByteRange {
    /// All of `length` bytes.
    pub fn whole(length: u64) -> Self {
        Self { start: 0, end: length }
    }

    /// How many bytes.
    pub fn length(&self) -> u64 {
        self.end - self.start
    }

    /// As `Content-Range` has it.
    pub(crate) fn content_range(&self, length: u64) -> String {
        format!("bytes {}-{}/{length}", self.start, self.end - 1)
    }
}

/// What a `Range` field means for a representation of known length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// 200: no range, or one that is to be ignored.
    Whole,
    /// 206
    Part(ByteRange),
    /// 206 with several parts, two or more, with bytes between any two.
    Parts(Vec<ByteRange>),
    /// 416
    Unsatisfiable,
}

/// Reads the `Range` field.
///
/// What is malformed, in another unit, or asks for more than [`RANGES`] is ignored, as RFC 9110 §14.2 allows. Ranges that
/// overlap, or between which lies less than it costs to tell them apart, are sent as one (§15.3.7.2), so that no request
/// costs more than the whole.
pub fn select(headers: &HeaderMap, length: u64) -> Selection {
    let mut fields = headers.get_all(header::RANGE).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return Selection::Whole };
    field.to_str().map_or(Selection::Whole, |text| parse(text, length).unwrap_or(Selection::Whole))
}

/// `None` for what is to be ignored.
fn parse(text: &str, length: u64) -> Option<Selection> {
    let (unit, set) = text.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    // RFC 9110 §5.6.1: elements of a list may be empty.
    let specs = || set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty());
    if !(1..=RANGES).contains(&specs().count()) {
        return None;
    }
    let mut ranges = Vec::new();
    for spec in specs() {
        match read(spec, length)? {
            Spec::Satisfiable(range) => ranges.push(range),
            Spec::Unsatisfiable => {}
        }
    }
    let parts = coalesced(ranges);
    Some(match parts.as_slice() {
        [] => Selection::Unsatisfiable,
        [part] => Selection::Part(*part),
        [_, _, ..] => Selection::Parts(parts),
    })
}

/// One range of a set.
enum Spec {
    Satisfiable(ByteRange),
    Unsatisfiable,
}

/// `None` for what is malformed.
fn read(spec: &str, length: u64) -> Option<Spec> {
    let (first, last) = spec.split_once('-')?;
    match (position(first), position(last)) {
        // A suffix: the last so many bytes.
        (Number::None, Number::Some(0)) => Some(Spec::Unsatisfiable),
        // `Content-Range` cannot say "no bytes of nothing".
        (Number::None, Number::Some(_)) if length == 0 => None,
        (Number::None, Number::Some(count)) => {
            Some(Spec::Satisfiable(ByteRange { start: length.saturating_sub(count), end: length }))
        }
        (Number::Some(first), Number::None) => Some(from(first, length, length)),
        (Number::Some(first), Number::Some(last)) if first <= last => {
            Some(from(first, last.saturating_add(1).min(length), length))
        }
        (Number::Some(_), Number::Some(_)) => None,
        (Number::None, Number::None) | (Number::Invalid, _) | (_, Number::Invalid) => None,
    }
}

fn from(start: u64, end: u64, length: u64) -> Spec {
    if start >= length { Spec::Unsatisfiable } else { Spec::Satisfiable(ByteRange { start, end }) }
}

/// In the order in which they were asked for (RFC 9110 §15.3.7.2), each where the first of those that became one with it
/// stood.
fn coalesced(ranges: Vec<ByteRange>) -> Vec<ByteRange> {
    let mut asked: Vec<(usize, ByteRange)> = ranges.into_iter().enumerate().collect();
    asked.sort_by_key(|(_, range)| range.start);
    let mut parts: Vec<(usize, ByteRange)> = Vec::with_capacity(asked.len());
    for (place, range) in asked {
        match parts.last_mut() {
            Some((first, part)) if range.start <= part.end.saturating_add(PART_BYTES) => {
                *first = place.min(*first);
                part.end = range.end.max(part.end);
            }
            Some(_) | None => parts.push((place, range)),
        }
    }
    parts.sort_by_key(|(place, _)| *place);
    parts.into_iter().map(|(_, part)| part).collect()
}

enum Number {
    None,
    Some(u64),
    Invalid,
}

fn position(digits: &str) -> Number {
    if digits.is_empty() {
        Number::None
    } else if digits.bytes().all(|b| b.is_ascii_digit()) {
        // A number too large for us is past the end of anything we have.
        Number::Some(digits.parse().unwrap_or(u64::MAX))
    } else {
        Number::Invalid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(start: u64, end: u64) -> Selection {
        Selection::Part(ByteRange { start, end })
    }

    fn parts(ranges: &[(u64, u64)]) -> Selection {
        Selection::Parts(ranges.iter().map(|&(start, end)| ByteRange { start, end }).collect())
    }

    fn selected(text: &str, length: u64) -> Selection {
        let headers = [(header::RANGE, text.parse().unwrap())].into_iter().collect();
        select(&headers, length)
    }

    #[test]
    fn examples_of_rfc_9110_section_14() {
        for (text, expected) in [
            ("bytes=0-499", part(0, 500)),
            ("bytes=500-999", part(500, 1000)),
            ("bytes=-500", part(9500, 10_000)),
            ("bytes=9500-", part(9500, 10_000)),
            ("bytes=9999-", part(9999, 10_000)),
            ("BYTES=0-0", part(0, 1)),
            ("bytes= 0-0 ", part(0, 1)),
            ("bytes=0-99999999999999999999999", part(0, 10_000)),
            ("bytes=-99999", part(0, 10_000)),
            ("bytes=10000-", Selection::Unsatisfiable),
            ("bytes=99999999999999999999999-", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=1-0", Selection::Whole),
            ("bytes=-", Selection::Whole),
            ("bytes=", Selection::Whole),
            ("bytes", Selection::Whole),
            ("bytes=a-b", Selection::Whole),
            ("bytes=+1-2", Selection::Whole),
            ("bytes=0-0,-1", parts(&[(0, 1), (9999, 10_000)])),
            ("bytes=500-600,601-999", part(500, 1000)),
            ("bytes=500-700,601-999", part(500, 1000)),
            ("bytes= 0-999, 4500-5499 ,\t-1000", parts(&[(0, 1000), (4500, 5500), (9000, 10_000)])),
            (",bytes=0-0", Selection::Whole),
            ("bytes=,0-0,,", part(0, 1)),
            ("bytes=,,", Selection::Whole),
            ("bytes=0-0,x", Selection::Whole),
            ("bytes=0-0,2-1", Selection::Whole),
            // What cannot be had does not keep the rest away.
            ("bytes=20000-,0-0", part(0, 1)),
            ("bytes=20000-,-0", Selection::Unsatisfiable),
            // In the order of the request; what lies close together is one.
            ("bytes=9000-,0-9", parts(&[(9000, 10_000), (0, 10)])),
            ("bytes=5000-5009,9000-9009,0-9,5100-5200", parts(&[(5000, 5201), (9000, 9010), (0, 10)])),
            ("bytes=9000-9009,0-4999,4000-", part(0, 10_000)),
            ("items=0-1", Selection::Whole),
        ] {
            assert_eq!(selected(text, 10_000), expected, "{text}");
        }
    }

    #[test]
    fn of_nothing_there_is_no_part() {
        assert_eq!(selected("bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(selected("bytes=-5", 0), Selection::Whole);
    }

    #[test]
    fn two_fields_are_ignored() {
        let mut headers = HeaderMap::new();
        headers.append(header::RANGE, "bytes=0-1".parse().unwrap());
        assert_eq!(select(&headers, 10), part(0, 2));
        headers.append(header::RANGE, "bytes=3-4".parse().unwrap());
        assert_eq!(select(&headers, 10), Selection::Whole);
    }

    #[test]
    fn so_many_and_no_more() {
        let many = |count: u64| {
            let set: Vec<_> = (0..count).map(|number| format!("{0}-{0}", number * 1000)).collect();
            selected(&format!("bytes={}", set.join(",")), 1 << 20)
        };
        assert!(matches!(many(RANGES as u64), Selection::Parts(parts) if parts.len() == RANGES));
        assert_eq!(many(RANGES as u64 + 1), Selection::Whole);
    }

    /// What a client may write, well or badly.
    fn spec() -> impl Strategy<Value = String> {
        prop_oneof![
            8 => (0u64..4000, 0u64..400).prop_map(|(first, more)| format!("{first}-{}", first + more)),
            2 => (0u64..4000).prop_map(|first| format!("{first}-")),
            2 => (0u64..4000).prop_map(|count| format!("-{count}")),
            1 => "[ \t]*[0-9]{0,22}-?[0-9]{0,22}[ -~]{0,2}",
        ]
    }

    proptest! {
        #[test]
        fn parts_lie_inside_apart_and_cover_what_was_asked(
            set in proptest::collection::vec(spec(), 0..RANGES + 3),
            length in 0u64..5000,
        ) {
            let text = format!("bytes={}", set.join(","));
            let parts = match selected(&text, length) {
                Selection::Whole | Selection::Unsatisfiable => return Ok(()),
                Selection::Part(part) => vec![part],
                Selection::Parts(parts) => {
                    prop_assert!((2..=RANGES).contains(&parts.len()));
                    parts
                }
            };
            let mut sent = vec![false; length as usize];
            for part in &parts {
                prop_assert!(part.start < part.end && part.end <= length);
                sent[part.start as usize..part.end as usize].fill(true);
            }
            for (one, other) in parts.iter().zip(&parts[1..]) {
                let apart = |a: &ByteRange, b: &ByteRange| a.end + PART_BYTES < b.start;
                prop_assert!(apart(one, other) || apart(other, one));
            }
            let mut asked = vec![false; length as usize];
            for spec in &set {
                if let Selection::Part(alone) = selected(&format!("bytes={spec}"), length) {
                    asked[alone.start as usize..alone.end as usize].fill(true);
                }
            }
            prop_assert!(asked.iter().zip(&sent).all(|(asked, sent)| *sent || !*asked));
            // And no more than what lies close between them.
            let gaps = asked.iter().zip(&sent).filter(|(asked, sent)| **sent && !**asked).count();
            prop_assert!(gaps <= set.len() * PART_BYTES as usize);
        }

        #[test]
        fn any_text_is_read(text in "(bytes=)?[ -~\t]{0,60}", length: u64) {
            if let Selection::Part(range) = selected(&text, length) {
                prop_assert!(range.start < range.end && range.end <= length);
            }
        }

        #[test]
        fn what_a_client_asks_for_is_what_it_gets(length in 1u64..1 << 40, a: u64, b: u64) {
            let (first, last) = ((a % length).min(b % length), (a % length).max(b % length));
            prop_assert_eq!(selected(&format!("bytes={first}-{last}"), length), part(first, last + 1));
            prop_assert_eq!(selected(&format!("bytes={first}-"), length), part(first, length));
            prop_assert_eq!(selected(&format!("bytes=-{}", last + 1), length), part(length - last - 1, length));
        }
    }
}
