//! What an asset's texts name, found without knowing what the texts are.

use reelmill_media::ids::{BlobHash, RenditionId};

/// The blobs that a playlist or presentation names: every run of exactly 64 lower-case hexadecimal digits. Such texts have
/// no others.
pub fn blobs(text: &[u8]) -> impl Iterator<Item = BlobHash> {
    const DIGITS: usize = 64;
    let hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    text.split(move |b| !hex(b))
        .filter(|run| run.len() == DIGITS)
        .filter_map(|run| std::str::from_utf8(run).ok()?.parse().ok())
}

/// The media playlists that a multivariant playlist names, or a presentation those of earlier editions.
pub fn media_playlists(text: &[u8]) -> impl Iterator<Item = RenditionId> {
    let name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    text.split(move |b| !name(b))
        .filter_map(|word| word.strip_suffix(b".m3u8"))
        .filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_wherever_they_stand() {
        let blob = BlobHash::of(b"x").to_string();
        let json = format!(r#"{{"hash":"{blob}","other":"{blob}0","short":"{}"}}"#, &blob[1..]);
        assert_eq!(blobs(json.as_bytes()).count(), 1);
        assert_eq!(blobs(format!("../../blobs/aa/{blob}.m4s\n").as_bytes()).count(), 1);
        let index =
            b"#EXT-X-MEDIA:TYPE=AUDIO,URI=\"a0.m3u8\"\n#EXT-X-STREAM-INF:CODECS=\"avc1.64\"\nv720.m3u8\n";
        assert_eq!(media_playlists(index).map(|r| r.to_string()).collect::<Vec<_>>(), ["a0", "v720"]);
    }
}
