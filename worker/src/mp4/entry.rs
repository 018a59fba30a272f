//! Sample entries (ISO 14496-12 §8.5.2): which codec, and what its decoder needs first.

use reelmill_media::index::{CodecSetup, Colour};

use super::read::{Cursor, Mp4Error, boxes, find};

/// Extradata is taken up to this length, in bytes.
const MAX_SETUP_BYTES: usize = 1 << 20;

/// A codec as a sample entry names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Pictures.
    Video(VideoEntry),
    /// Sound.
    Audio(AudioEntry),
    /// A codec we do not know, or encrypted media, by its four characters; empty for neither picture nor sound.
    Unknown(String),
}

/// A visual sample entry (§12.1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoEntry {
    /// Decoder parameters.
    pub setup: CodecSetup,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Pixel width to height (`pasp`).
    pub sample_aspect: Option<(u32, u32)>,
    /// Colour (`colr`).
    pub colour: Colour,
}

/// An audio sample entry (§12.2.3, and QuickTime's versions 1 and 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioEntry {
    /// Decoder parameters.
    pub setup: CodecSetup,
    /// Samples per second.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u16,
    /// Bytes of one sample of all channels, where sound is not coded.
    pub pcm_frame_bytes: Option<u32>,
}

/// Reads the first entry of `stsd` for a track of this handler.
pub fn read(stsd: &[u8], handler: &[u8; 4]) -> Result<Entry, Mp4Error> {
    let mut c = Cursor::new(stsd);
    c.full()?;
    c.u32()?;
    let Some(first) = boxes(c.rest()).next() else {
        return Err(Mp4Error::Corrupt("a track has no sample entry"));
    };
    let (kind, body) = first?;
    let entry = match handler {
        b"vide" => video(&kind, body)?.map(Entry::Video),
        b"soun" => audio(&kind, body)?.map(Entry::Audio),
        // Subtitles, chapters, metadata: nothing that is looked for.
        _ => return Ok(Entry::Unknown(String::new())),
    };
    Ok(entry.unwrap_or_else(|| Entry::Unknown(kind.iter().map(|b| char::from(*b)).collect())))
}

fn setup(codec: &str, extradata: &[u8]) -> Result<CodecSetup, Mp4Error> {
    if extradata.len() > MAX_SETUP_BYTES {
        return Err(Mp4Error::TooLarge("decoder parameters of more than 1 MiB"));
    }
    Ok(CodecSetup::new(codec, extradata))
}

fn video(kind: &[u8; 4], body: &[u8]) -> Result<Option<VideoEntry>, Mp4Error> {
    let mut c = Cursor::new(body);
    c.skip(24)?;
    let (width, height) = (u32::from(c.u16()?), u32::from(c.u16()?));
    c.skip(50)?;
    let inner = c.rest();
    let property = |kind| find(inner, kind).map(Option::unwrap_or_default);
    let setup = match kind {
        b"avc1" | b"avc3" | b"dva1" | b"dvav" => setup("h264", property(b"avcC")?)?,
        b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" => setup("hevc", property(b"hvcC")?)?,
        b"av01" => setup("av1", property(b"av1C")?)?,
        b"vp08" => setup("vp8", &[])?,
        b"vp09" => setup("vp9", &[])?,
        b"mp4v" => match elementary_stream(property(b"esds")?)? {
            (0x20, specific) => setup("mpeg4", specific)?,
            (0x60..=0x65, specific) => setup("mpeg2video", specific)?,
            (0x6a, specific) => setup("mpeg1video", specific)?,
            (0x6c, _) => setup("mjpeg", &[])?,
            (_, _) => return Ok(None),
        },
        b"s263" | b"h263" => setup("h263", &[])?,
        b"mjpa" | b"jpeg" | b"mjpg" => setup("mjpeg", &[])?,
        b"apch" | b"apcn" | b"apcs" | b"apco" | b"ap4h" | b"ap4x" => setup("prores", &[])?,
        b"AVdn" | b"AVdh" => setup("dnxhd", &[])?,
        _ => return Ok(None),
    };
    let sample_aspect = match find(inner, b"pasp")? {
        Some(pasp) => {
            let mut c = Cursor::new(pasp);
            Some((c.u32()?, c.u32()?)).filter(|(num, den)| *num > 0 && *den > 0)
        }
        None => None,
    };
    let colour = find(inner, b"colr")?.map_or(Ok(Colour::UNSPECIFIED), colour)?;
    Ok(Some(VideoEntry { setup, width, height, sample_aspect, colour }))
}

/// `colr` (§12.1.5): code points of H.273, from ISO's or QuickTime's form; ICC profiles say nothing we use.
fn colour(colr: &[u8]) -> Result<Colour, Mp4Error> {
    let mut c = Cursor::new(colr);
    let kind = c.kind()?;
    if !matches!(&kind, b"nclx" | b"nclc") {
        return Ok(Colour::UNSPECIFIED);
    }
    let mut code = || c.u16().map(|v| u8::try_from(v).unwrap_or(2));
    let (primaries, transfer, matrix) = (code()?, code()?, code()?);
    let full_range = if &kind == b"nclx" { Some(c.u8()? & 0x80 != 0) } else { None };
    Ok(Colour { primaries, transfer, matrix, full_range })
}

/// What an audio sample entry says ahead of its boxes.
struct SoundHead {
    channels: u16,
    bits: u32,
    sample_rate: u32,
    lpcm_flags: u32,
}

impl SoundHead {
    fn read(c: &mut Cursor<'_>) -> Result<Self, Mp4Error> {
        c.skip(8)?;
        let version = c.u16()?;
        c.skip(6)?;
        let (channels, bits) = (c.u16()?, u32::from(c.u16()?));
        c.skip(4)?;
        let head = Self { channels, bits, sample_rate: c.u32()? >> 16, lpcm_flags: 0 };
        match version {
            1 => c.skip(16)?,
            2 => {
                c.skip(4)?;
                let rate = f64::from_bits(c.u64()?);
                let sample_rate = if (1.0..1_000_000.0).contains(&rate) { rate.round() as u32 } else { 0 };
                let channels = u16::try_from(c.u32()?).unwrap_or(0);
                c.skip(4)?;
                let (bits, lpcm_flags) = (c.u32()?, c.u32()?);
                c.skip(8)?;
                return Ok(Self { channels, bits, sample_rate, lpcm_flags });
            }
            _ => {}
        }
        Ok(head)
    }
}

fn audio(kind: &[u8; 4], body: &[u8]) -> Result<Option<AudioEntry>, Mp4Error> {
    let mut c = Cursor::new(body);
    let SoundHead { channels, bits, mut sample_rate, lpcm_flags } = SoundHead::read(&mut c)?;
    let inner = c.rest();
    // QuickTime wraps the interesting boxes once more.
    let wave = find(inner, b"wave").ok().flatten().unwrap_or_default();
    let property = |kind: &[u8; 4]| {
        find(inner, kind).ok().flatten().or(find(wave, kind).ok().flatten()).unwrap_or_default()
    };
    let end = if property(b"enda").last() == Some(&1) { "le" } else { "be" };
    let pcm = |codec: &str, bytes: u32| (CodecSetup::new(codec, []), Some(bytes * u32::from(channels)));
    let coded = |codec: &str, extradata: &[u8]| setup(codec, extradata).map(|setup| (setup, None));
    let (setup, pcm_frame_bytes) = match kind {
        b"sowt" if bits <= 16 => pcm("pcm_s16le", 2),
        b"twos" if bits <= 16 => pcm("pcm_s16be", 2),
        b"in24" => pcm(&format!("pcm_s24{end}"), 3),
        b"in32" => pcm(&format!("pcm_s32{end}"), 4),
        b"fl32" => pcm(&format!("pcm_f32{end}"), 4),
        b"ulaw" => pcm("pcm_mulaw", 1),
        b"alaw" => pcm("pcm_alaw", 1),
        b"raw " => pcm("pcm_u8", 1),
        b"lpcm" | b"ipcm" | b"fpcm" => match lpcm(lpcm_flags, bits) {
            Some((codec, bytes)) => pcm(codec, bytes),
            None => return Ok(None),
        },
        b"mp4a" => {
            let esds = property(b"esds");
            let (object, specific) = if esds.is_empty() { (0x40, &[][..]) } else { elementary_stream(esds)? };
            match object {
                0x40 | 0x66..=0x68 => coded("aac", specific)?,
                0x69 | 0x6b => coded("mp3", specific)?,
                0xa5 => coded("ac3", specific)?,
                0xa6 => coded("eac3", specific)?,
                0xa9 => coded("dts", specific)?,
                _ => return Ok(None),
            }
        }
        b"Opus" => {
            sample_rate = 48_000;
            coded("opus", &opus_head(property(b"dOps"))?)?
        }
        // `dfLa` is a full box of metadata blocks, STREAMINFO first: 4 bytes of block header, then 34.
        b"fLaC" => coded("flac", property(b"dfLa").get(8..42).unwrap_or_default())?,
        b"alac" => {
            let cookie = property(b"alac");
            // libav wants the box with its header.
            coded("alac", &[&(cookie.len() as u32 + 8).to_be_bytes()[..], b"alac", cookie].concat())?
        }
        b".mp3" | b"mp3 " | b"ms\0U" => coded("mp3", &[])?,
        b"ac-3" | b"sac3" => coded("ac3", &[])?,
        b"ec-3" => coded("eac3", &[])?,
        b"dtsc" => coded("dts", &[])?,
        b"samr" => coded("amr_nb", &[])?,
        b"sawb" => coded("amr_wb", &[])?,
        _ => return Ok(None),
    };
    Ok(Some(AudioEntry { setup, sample_rate, channels, pcm_frame_bytes }))
}

/// QuickTime's `formatSpecificFlags`: 1 float, 2 big-endian, 4 signed.
fn lpcm(flags: u32, bits: u32) -> Option<(&'static str, u32)> {
    let big = flags & 2 != 0;
    match (flags & 1 != 0, bits, big) {
        (true, 32, false) => Some(("pcm_f32le", 4)),
        (true, 32, true) => Some(("pcm_f32be", 4)),
        (false, 16, false) => Some(("pcm_s16le", 2)),
        (false, 16, true) => Some(("pcm_s16be", 2)),
        (false, 24, false) => Some(("pcm_s24le", 3)),
        (false, 24, true) => Some(("pcm_s24be", 3)),
        (false, 32, false) => Some(("pcm_s32le", 4)),
        (false, 32, true) => Some(("pcm_s32be", 4)),
        (true | false, _, true | false) => None,
    }
}

/// `dOps` (big-endian) to the `OpusHead` that decoders take (little-endian).
fn opus_head(dops: &[u8]) -> Result<Vec<u8>, Mp4Error> {
    let mut c = Cursor::new(dops);
    c.u8()?;
    let channels = c.u8()?;
    let (pre_skip, rate, gain) = (c.u16()?, c.u32()?, c.u16()?);
    let mut out = b"OpusHead".to_vec();
    out.extend_from_slice(&[1, channels]);
    out.extend_from_slice(&pre_skip.to_le_bytes());
    out.extend_from_slice(&rate.to_le_bytes());
    out.extend_from_slice(&gain.to_le_bytes());
    out.extend_from_slice(c.rest());
    Ok(out)
}

/// Object type and DecoderSpecificInfo of an `esds` (ISO 14496-1 §7.2.6).
fn elementary_stream(esds: &[u8]) -> Result<(u8, &[u8]), Mp4Error> {
    let mut c = Cursor::new(esds);
    c.full()?;
    let mut c = Cursor::new(descriptor(&mut c, 3)?);
    c.skip(2)?;
    let flags = c.u8()?;
    if flags & 0x80 != 0 {
        c.skip(2)?;
    }
    if flags & 0x40 != 0 {
        let url = usize::from(c.u8()?);
        c.skip(url)?;
    }
    if flags & 0x20 != 0 {
        c.skip(2)?;
    }
    let mut c = Cursor::new(descriptor(&mut c, 4)?);
    let object = c.u8()?;
    c.skip(12)?;
    let specific = if c.left() == 0 { &[][..] } else { descriptor(&mut c, 5).unwrap_or_default() };
    Ok((object, specific))
}

/// The body of the next descriptor, which must have this tag. Lengths come in groups of seven bits.
fn descriptor<'a>(c: &mut Cursor<'a>, tag: u8) -> Result<&'a [u8], Mp4Error> {
    if c.u8()? != tag {
        return Err(Mp4Error::Corrupt("an esds box has unknown descriptors"));
    }
    let mut length = 0usize;
    for _ in 0..4 {
        let byte = c.u8()?;
        length = length << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    // Some writers give lengths that reach past the box.
    c.take(length.min(c.left()))
}
