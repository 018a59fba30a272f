//! The storyboard: a WebVTT file that says which part of which sprite sheet shows which time (W3C Media Fragments
//! §4.2.2, as players have agreed on).

use std::fmt::Write;

use crate::keys::{BlobKind, blob_from_playlist};
use crate::presentation::Presentation;

/// One cue per thumbnail, from its time to the next one's; `None` before there are sprite sheets.
pub fn storyboard(presentation: &Presentation) -> Option<String> {
    let board = presentation.storyboard.as_ref()?;
    let per_sheet = (board.columns * board.rows).max(1);
    let ends = presentation.thumbnails.iter().skip(1).map(|next| next.at_micros);
    let ends = ends.chain([presentation.duration_micros]);
    let mut text = "WEBVTT\n".to_owned();
    for ((n, thumbnail), end) in (0u32..).zip(&presentation.thumbnails).zip(ends) {
        let sheet = board.sheets.get((n / per_sheet) as usize)?;
        let at = n % per_sheet;
        let (x, y) = (at % board.columns * thumbnail.width, at / board.columns * thumbnail.height);
        let uri = blob_from_playlist(&sheet.hash, BlobKind::Image);
        let _ = writeln!(
            text,
            "\n{} --> {}\n{uri}#xywh={x},{y},{},{}",
            clock(thumbnail.at_micros),
            clock(end),
            thumbnail.width,
            thumbnail.height,
        );
    }
    Some(text)
}

/// WebVTT §3.3: hours, minutes, seconds, milliseconds.
fn clock(micros: i64) -> String {
    let ms = micros.max(0) / 1000;
    format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}
