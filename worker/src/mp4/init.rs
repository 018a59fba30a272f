//! Init segments: `ftyp` and `moov` of a CMAF track (ISO 23000-19 §7.3.1). They hold only what the plan and the
//! encoder's settings say, so every chunk of a rendition makes the same bytes.

use reelmill_media::time::Timescale;

use super::avc::AvcConfig;
use super::boxes::Boxes;

/// The one track of every file we write.
pub const TRACK_ID: u32 = 1;

/// What the init segment of a video rendition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoInit {
    /// The rendition's clock.
    pub timescale: Timescale,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// Parameter sets.
    pub avc: AvcConfig,
    /// ColourPrimaries, TransferCharacteristics and MatrixCoefficients of H.273; the range is limited.
    pub colour: [u8; 3],
}

/// What the init segment of an audio rendition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioInit {
    /// Samples per second; also the clock.
    pub sample_rate: Timescale,
    /// Channels.
    pub channels: u16,
    /// AudioSpecificConfig.
    pub config: Vec<u8>,
    /// Target rate in bit/s.
    pub bits_per_second: u32,
    /// Samples of encoder delay before the first presented one.
    pub delay_samples: u32,
    /// ISO 639-2 code.
    pub language: Option<String>,
}

impl VideoInit {
    /// `ftyp` and `moov`.
    pub fn bytes(&self) -> Vec<u8> {
        let track = TrackBoxes {
            timescale: self.timescale,
            handler: b"vide",
            name: b"video\0",
            size: (self.width, self.height),
            volume: 0,
            language: None,
            skip: None,
        };
        track.file(
            |b| {
                b.nest_full(b"vmhd", 0, 1, |b| {
                    b.zeros(8);
                });
            },
            |b| {
                b.nest(b"avc1", |b| {
                    // SampleEntry, then VisualSampleEntry (§12.1.3): 72 dpi, one frame a sample, 24-bit depth.
                    b.zeros(6).u16(1).zeros(16).u16(self.width).u16(self.height);
                    b.u32(0x48_0000).u32(0x48_0000).zeros(4).u16(1).zeros(32).u16(0x18).u16(0xffff);
                    b.nest(b"avcC", |b| {
                        b.bytes(&self.avc.record());
                    });
                    b.nest(b"colr", |b| {
                        b.bytes(b"nclx");
                        for code in self.colour {
                            b.u16(u16::from(code));
                        }
                        b.u8(0);
                    });
                    b.nest(b"pasp", |b| {
                        b.u32(1).u32(1);
                    });
                });
            },
        )
    }
}

impl AudioInit {
    /// `ftyp` and `moov`.
    pub fn bytes(&self) -> Vec<u8> {
        let track = TrackBoxes {
            timescale: self.sample_rate,
            handler: b"soun",
            name: b"sound\0",
            size: (0, 0),
            volume: 0x100,
            language: self.language.as_deref(),
            skip: Some(self.delay_samples),
        };
        track.file(
            |b| {
                b.nest_full(b"smhd", 0, 0, |b| {
                    b.zeros(4);
                });
            },
            |b| {
                b.nest(b"mp4a", |b| {
                    // SampleEntry, then AudioSampleEntry (§12.2.3): 16 bits, rate as 16.16.
                    b.zeros(6).u16(1).zeros(8).u16(self.channels).u16(16).zeros(4);
                    b.u32(self.sample_rate.get().min(0xffff) << 16);
                    b.nest_full(b"esds", 0, 0, |b| self.elementary_stream(b));
                });
            },
        )
    }

    /// ES_Descriptor (ISO 14496-1 §7.2.6.5). All lengths stay below 128, so each takes one byte.
    fn elementary_stream(&self, b: &mut Boxes) {
        let config = self.config.len().min(64);
        let (specific, decoder) = (config as u8, config as u8 + 15);
        b.u8(3).u8(decoder + 8).u16(TRACK_ID as u16).u8(0);
        // Object type 0x40: ISO 14496-3 audio. Stream type 5 (audio), reserved bit set.
        b.u8(4)
            .u8(decoder)
            .u8(0x40)
            .u8(5 << 2 | 1)
            .zeros(3)
            .u32(self.bits_per_second)
            .u32(self.bits_per_second);
        b.u8(5).u8(specific).bytes(&self.config[..config]);
        b.u8(6).u8(1).u8(2);
    }
}

/// What all tracks share.
struct TrackBoxes<'a> {
    timescale: Timescale,
    handler: &'a [u8; 4],
    name: &'a [u8],
    size: (u16, u16),
    volume: u16,
    language: Option<&'a str>,
    skip: Option<u32>,
}

/// The unity matrix (§6.2.2).
const UNITY: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

impl TrackBoxes<'_> {
    fn file(&self, media_header: impl FnOnce(&mut Boxes), entry: impl FnOnce(&mut Boxes)) -> Vec<u8> {
        let mut out = Boxes::new();
        out.nest(b"ftyp", |b| {
            b.bytes(b"cmfc").u32(0).bytes(b"iso6").bytes(b"cmfc");
        });
        out.nest(b"moov", |b| {
            b.nest_full(b"mvhd", 0, 0, |b| {
                b.zeros(8).u32(self.timescale.get()).u32(0).u32(0x1_0000).u16(0x100).zeros(10);
                matrix(b);
                b.zeros(24).u32(TRACK_ID + 1);
            });
            b.nest(b"trak", |b| {
                // Enabled, in the movie.
                b.nest_full(b"tkhd", 0, 3, |b| {
                    b.zeros(8).u32(TRACK_ID).zeros(4).u32(0).zeros(8).zeros(4).u16(self.volume).zeros(2);
                    matrix(b);
                    b.u32(u32::from(self.size.0) << 16).u32(u32::from(self.size.1) << 16);
                });
                if let Some(samples) = self.skip {
                    // Presentation begins that many samples into the media. Duration 0: to the end, wherever the
                    // fragments put it (§8.6.6.1).
                    b.nest(b"edts", |b| {
                        b.nest_full(b"elst", 0, 0, |b| {
                            b.u32(1).u32(0).u32(samples).u16(1).u16(0);
                        });
                    });
                }
                b.nest(b"mdia", |b| self.media(b, media_header, entry));
            });
            b.nest(b"mvex", |b| {
                b.nest_full(b"trex", 0, 0, |b| {
                    b.u32(TRACK_ID).u32(1).zeros(12);
                });
            });
        });
        out.into_bytes()
    }

    fn media(&self, b: &mut Boxes, media_header: impl FnOnce(&mut Boxes), entry: impl FnOnce(&mut Boxes)) {
        b.nest_full(b"mdhd", 0, 0, |b| {
            b.zeros(8).u32(self.timescale.get()).u32(0).u16(packed_language(self.language)).zeros(2);
        });
        b.nest_full(b"hdlr", 0, 0, |b| {
            b.zeros(4).bytes(self.handler).zeros(12).bytes(self.name);
        });
        b.nest(b"minf", |b| {
            media_header(b);
            b.nest(b"dinf", |b| {
                b.nest_full(b"dref", 0, 0, |b| {
                    // One reference: this very file.
                    b.u32(1).nest_full(b"url ", 0, 1, |_| {});
                });
            });
            b.nest(b"stbl", |b| {
                b.nest_full(b"stsd", 0, 0, |b| {
                    b.u32(1);
                    entry(b);
                });
                for empty in [b"stts", b"stsc", b"stco"] {
                    b.nest_full(empty, 0, 0, |b| {
                        b.u32(0);
                    });
                }
                b.nest_full(b"stsz", 0, 0, |b| {
                    b.zeros(8);
                });
            });
        });
    }
}

fn matrix(b: &mut Boxes) {
    for value in UNITY {
        b.u32(value);
    }
}

/// Three letters in five bits each (§8.4.2.3); `und` when unsaid.
fn packed_language(code: Option<&str>) -> u16 {
    let letters = code.filter(|c| c.len() == 3 && c.bytes().all(|b| b.is_ascii_lowercase())).unwrap_or("und");
    letters.bytes().fold(0, |packed, b| packed << 5 | u16::from(b - 0x60))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mp4_atom::{Codec, Decode, Ftyp, Moov};

    fn decode(bytes: &[u8]) -> Moov {
        let mut rest = bytes;
        Ftyp::decode(&mut rest).unwrap();
        let moov = Moov::decode(&mut rest).unwrap();
        assert!(rest.is_empty());
        moov
    }

    #[test]
    fn an_independent_reader_understands_both_kinds() {
        let sets = [&[0, 0, 0, 1, 0x67, 0x64, 0, 0x1e, 0xac][..], &[0, 0, 0, 1, 0x68, 0xee, 0x3c]].concat();
        let avc = AvcConfig::from_annex_b(&sets).unwrap();
        let timescale = Timescale::new(15_360).unwrap();
        let video = VideoInit { timescale, width: 640, height: 360, avc, colour: [1, 1, 1] };
        let moov = decode(&video.bytes());
        assert!(moov.mvex.is_some());
        assert_eq!(moov.trak[0].mdia.mdhd.timescale, 15_360);
        let Codec::Avc1(avc1) = &moov.trak[0].mdia.minf.stbl.stsd.codecs[0] else { panic!("not avc1") };
        assert_eq!((avc1.visual.width, avc1.visual.height), (640, 360));
        assert_eq!(avc1.avcc.avc_level_indication, 0x1e);

        let audio = AudioInit {
            sample_rate: Timescale::new(48_000).unwrap(),
            channels: 2,
            config: vec![0x11, 0x90, 0x56, 0xe5, 0x00],
            bits_per_second: 128_000,
            delay_samples: 1024,
            language: Some("deu".into()),
        };
        let moov = decode(&audio.bytes());
        let trak = &moov.trak[0];
        assert_eq!(trak.mdia.mdhd.language, "deu");
        assert!(trak.edts.is_some());
        let Codec::Mp4a(mp4a) = &trak.mdia.minf.stbl.stsd.codecs[0] else { panic!("not mp4a") };
        assert_eq!(mp4a.esds.es_desc.dec_config.dec_specific.as_ref().unwrap().raw, audio.config);
    }
}
