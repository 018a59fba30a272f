//! The `Range` field (RFC 9110 §14). Pure: text and length in, what to send out.

use http::{HeaderMap, header};

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
}

/// What a `Range` field means for a representation of known length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// 200: no range, or one that is to be ignored.
    Whole,
    /// 206
    Part(ByteRange),
    /// 416
    Unsatisfiable,
}

/// Reads the `Range` field.
///
/// What is malformed, in another unit, or asks for several ranges is ignored, as RFC 9110 §14.2 allows: no player asks
/// for several, and serving them invites requests that cost much more than they look.
pub fn select(headers: &HeaderMap, length: u64) -> Selection {
    let mut fields = headers.get_all(header::RANGE).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return Selection::Whole };
    field.to_str().map_or(Selection::Whole, |text| parse(text, length))
}

fn parse(text: &str, length: u64) -> Selection {
    let Some((unit, set)) = text.split_once('=') else { return Selection::Whole };
    if !unit.eq_ignore_ascii_case("bytes") {
        return Selection::Whole;
    }
    let Some((first, last)) = set.trim_matches([' ', '\t']).split_once('-') else { return Selection::Whole };
    match (position(first), position(last)) {
        // A suffix: the last so many bytes.
        (Number::None, Number::Some(0)) => Selection::Unsatisfiable,
        // `Content-Range` cannot say "no bytes of nothing".
        (Number::None, Number::Some(_)) if length == 0 => Selection::Whole,
        (Number::None, Number::Some(count)) => {
            Selection::Part(ByteRange { start: length.saturating_sub(count), end: length })
        }
        (Number::Some(first), Number::None) => from(first, length, length),
        (Number::Some(first), Number::Some(last)) if first <= last => {
            from(first, last.saturating_add(1).min(length), length)
        }
        (Number::Some(_), Number::Some(_)) => Selection::Whole,
        (Number::None, Number::None) | (Number::Invalid, _) | (_, Number::Invalid) => Selection::Whole,
    }
}

fn from(start: u64, end: u64, length: u64) -> Selection {
    if start >= length { Selection::Unsatisfiable } else { Selection::Part(ByteRange { start, end }) }
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
            ("bytes=0-0,-1", Selection::Whole),
            ("items=0-1", Selection::Whole),
        ] {
            assert_eq!(parse(text, 10_000), expected, "{text}");
        }
    }

    #[test]
    fn of_nothing_there_is_no_part() {
        assert_eq!(parse("bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(parse("bytes=-5", 0), Selection::Whole);
    }

    #[test]
    fn two_fields_are_ignored() {
        let mut headers = HeaderMap::new();
        headers.append(header::RANGE, "bytes=0-1".parse().unwrap());
        assert_eq!(select(&headers, 10), part(0, 2));
        headers.append(header::RANGE, "bytes=3-4".parse().unwrap());
        assert_eq!(select(&headers, 10), Selection::Whole);
    }

    proptest! {
        #[test]
        fn a_part_lies_inside_and_is_not_empty(text in "(bytes=)?[0-9]{0,20}-?[0-9]{0,20}.{0,3}", length: u64) {
            if let Selection::Part(range) = parse(&text, length) {
                prop_assert!(range.start < range.end && range.end <= length);
            }
        }

        #[test]
        fn what_a_client_asks_for_is_what_it_gets(length in 1u64..1 << 40, a: u64, b: u64) {
            let (first, last) = ((a % length).min(b % length), (a % length).max(b % length));
            prop_assert_eq!(parse(&format!("bytes={first}-{last}"), length), part(first, last + 1));
            prop_assert_eq!(parse(&format!("bytes={first}-"), length), part(first, length));
            prop_assert_eq!(parse(&format!("bytes=-{}", last + 1), length), part(length - last - 1, length));
        }
    }
}
