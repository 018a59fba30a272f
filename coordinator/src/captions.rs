//! Captions as their owner has them, WebVTT or SubRip, made into the WebVTT segment that players get.

use std::fmt::Write;

use fasrt::{srt, vtt};

/// Cue times are those of the presentation, which starts at 0 (RFC 8216bis §3.1.4).
const TIMESTAMP_MAP: &str = "X-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0";
/// What stands between the times of a cue.
const ARROW: &str = "-->";

/// Why a text is no captions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCaptions {
    /// Another encoding, or no text at all.
    #[error("the text is not UTF-8")]
    Encoding,
    /// It begins like WebVTT and is none.
    #[error("the text is not WebVTT: {0}")]
    Webvtt(String),
    /// Nobody would see anything.
    #[error("there is no cue in the text, which is to be WebVTT or SubRip")]
    NoCues,
    /// Players would leave out what follows.
    #[error("line {0} has \"-->\" and is not the timing of a cue")]
    Timing(usize),
}

/// The WebVTT segment for a text in WebVTT or SubRip. Nothing of the text is lost silently: where a player would leave
/// something out, the text is refused.
pub fn segment(bytes: &[u8]) -> Result<String, NotCaptions> {
    let text = std::str::from_utf8(bytes).map_err(|_| NotCaptions::Encoding)?;
    let text = text.trim_start_matches('\u{feff}');
    if text.starts_with("WEBVTT") { from_webvtt(text) } else { from_subrip(text) }
}

/// The text as it is, with its header.
fn from_webvtt(text: &str) -> Result<String, NotCaptions> {
    let blocks = vtt::Parser::new(text).collect::<Result<Vec<_>, _>>();
    let blocks = blocks.map_err(|e| NotCaptions::Webvtt(e.to_string()))?;
    let cues = blocks.iter().filter(|block| block.is_cue()).count();
    let is_timing = |line: &str| {
        let alone = format!("WEBVTT\n\n{line}\n");
        vtt::Parser::new(&alone).any(|block| block.is_ok_and(|block| block.is_cue()))
    };
    check_timings(text, cues, is_timing)?;
    let mut lines = lines(text);
    let mut made = format!("{}\n{TIMESTAMP_MAP}\n", lines.next().unwrap_or_default());
    let mut in_header = true;
    for line in lines {
        in_header &= !line.is_empty() && !line.contains(ARROW);
        // Another packager's, whose media began at another time.
        if in_header && line.starts_with("X-TIMESTAMP-MAP") {
            continue;
        }
        made.push_str(line);
        made.push('\n');
    }
    Ok(made)
}

fn from_subrip(text: &str) -> Result<String, NotCaptions> {
    let cues = srt::Parser::lossy(text).collect::<Result<Vec<_>, _>>().map_err(|_| NotCaptions::NoCues)?;
    let is_timing = |line: &str| srt::Parser::lossy(line).any(|cue| cue.is_ok());
    check_timings(text, cues.len(), is_timing)?;
    let mut made = format!("WEBVTT\n{TIMESTAMP_MAP}\n");
    for cue in cues {
        let (start, end) = (cue.header_ref().start().to_string(), cue.header_ref().end().to_string());
        // Writing to a String cannot fail.
        let _ = write!(made, "\n{} {ARROW} {}\n", start.replace(',', "."), end.replace(',', "."));
        for line in lines(cue.body_ref()) {
            made.push_str(&cue_text(line));
            made.push('\n');
        }
    }
    Ok(made)
}

/// Every arrow must be that of a cue.
fn check_timings(text: &str, cues: usize, is_timing: impl Fn(&str) -> bool) -> Result<(), NotCaptions> {
    let arrows = || (1..).zip(lines(text)).filter(|(_, line)| line.contains(ARROW));
    if let Some((number, _)) = arrows().find(|(_, line)| !is_timing(line)) {
        return Err(NotCaptions::Timing(number));
    }
    match arrows().nth(cues) {
        _ if cues == 0 => Err(NotCaptions::NoCues),
        // One of them stands inside something else; the last one is as good as any.
        Some((number, _)) => Err(NotCaptions::Timing(number)),
        None => Ok(()),
    }
}

/// Lines that end as WebVTT's may: by LF, CR or both.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

/// A line of SubRip as WebVTT cue text: bold, italic and underlined stay, colours and positions that converters leave
/// behind go, and what only looks like markup is text.
fn cue_text(line: &str) -> String {
    const KEPT: [&str; 6] = ["<b>", "</b>", "<i>", "</i>", "<u>", "</u>"];
    let mut made = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(next) = rest.chars().next() {
        let length = match next {
            '<' => {
                let tag = rest.split_inclusive('>').next().unwrap_or_default().to_ascii_lowercase();
                match KEPT.iter().find(|kept| **kept == tag) {
                    Some(kept) => made.push_str(kept),
                    None if tag == "</font>" || (tag.starts_with("<font ") && tag.ends_with('>')) => {}
                    None => made.push_str("&lt;"),
                }
                if made.ends_with("&lt;") { 1 } else { tag.len() }
            }
            '{' if rest.starts_with("{\\") && rest.contains('}') => rest.find('}').unwrap_or_default() + 1,
            '&' | '>' => {
                made.push_str(if next == '&' { "&amp;" } else { "&gt;" });
                1
            }
            other => {
                made.push(other);
                other.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webvtt_stays_as_it_is_but_for_its_clock() {
        let text = "\u{feff}WEBVTT - made by hand\r\nKind: captions\r\nX-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:00.000\r\n\r\n\
                    NOTE nothing\r\n\r\nintro\r\n00:01.000 --> 00:02.500 align:start\r\n<v Ann>Hello &amp; bye\r\n";
        let made = segment(text.as_bytes()).unwrap();
        assert_eq!(
            made,
            "WEBVTT - made by hand\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0\nKind: captions\n\nNOTE nothing\n\n\
             intro\n00:01.000 --> 00:02.500 align:start\n<v Ann>Hello &amp; bye\n\n"
        );
        assert!(segment(made.as_bytes()).is_ok(), "what was made is good to be given again");
    }

    #[test]
    fn subrip_becomes_webvtt_that_says_the_same() {
        let text = "1\r\n00:00:01,000 --> 00:00:02,500\r\n{\\an8}<FONT color=\"#fff\"><I>I <3 R&B</i></font>\r\n\r\n\
                    2\r\n01:00:00,000 --> 01:00:01,000\r\na -> b\r\nnext line\r\n";
        let made = segment(text.as_bytes()).unwrap();
        assert_eq!(
            made,
            "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0\n\n00:00:01.000 --> 00:00:02.500\n\
             <i>I &lt;3 R&amp;B</i>\n\n01:00:00.000 --> 01:00:01.000\na -&gt; b\nnext line\n"
        );
        assert!(segment(made.as_bytes()).is_ok());
    }

    #[test]
    fn what_players_would_leave_out_is_refused_with_its_line() {
        for (text, error) in [
            ("", NotCaptions::NoCues),
            ("hello\nworld\n", NotCaptions::NoCues),
            ("WEBVTT\n\nhello\n", NotCaptions::NoCues),
            (
                "WEBVTT\n\n00:01.000 --> 00:02.000\na\n\n00:03.000 -> 00:04.000\nb\n\n1:2:3 --> 5\n",
                NotCaptions::Timing(9),
            ),
            (
                "WEBVTT\n\nNOTE 00:01.000 --> 00:02.000\n\n00:03.000 --> 00:04.000\nb\n",
                NotCaptions::Timing(3),
            ),
            (
                "1\n00:00:01,000 --> 00:00:02,000\na\n2\n00:00:03,000 --> 00:00:04,000\n",
                NotCaptions::Timing(5),
            ),
            ("1\n00:00:01,000 --> 00:99:02,000\na\n", NotCaptions::Timing(2)),
        ] {
            assert_eq!(segment(text.as_bytes()).unwrap_err(), error, "{text}");
        }
        assert_eq!(segment(b"1\n\xff\xfe"), Err(NotCaptions::Encoding));
        assert!(matches!(segment(b"WEBVTTX\n"), Err(NotCaptions::Webvtt(_))));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_taken_is_webvtt(text in "(WEBVTT\n\n)?([0-9]{1,2}\n00:00:0[0-9][,.]000 --> 00:00:1[0-9][,.]000\n[<>&{}\\\\a-z/é \n]{0,20}\n\n){0,3}") {
            if let Ok(made) = segment(text.as_bytes()) {
                let cues = vtt::Parser::new(&made).filter(|block| block.as_ref().is_ok_and(|b| b.is_cue())).count();
                proptest::prop_assert_eq!(cues, text.matches(ARROW).count());
            }
        }
    }
}
