//! Init segments: `ftyp` and `moov` of a CMAF track (ISO 23000-19 §7.3.1). They hold only what the plan and the
//! encoder's settings say, so every chunk of a rendition makes the same bytes.

use reelmill_media::codec::AudioCodec;
use reelmill_media::time::Timescale;

use super::boxes::Boxes;
use super::opus::{OpusConfig, ROLL_PACKETS};
use super::video_config::{BadParameterSets, VideoConfig};

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
    /// Codec and parameter sets.
    pub config: VideoConfig,
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
    /// Codec and its decoder's parameters.
    pub config: AudioConfig,
    /// Target rate in bit/s.
    pub bits_per_second: u32,
    /// Samples of encoder delay before the first presented one.
    pub delay_samples: u32,
    /// ISO 639-2 code.
    pub language: Option<String>,
}

/// What a decoder of sound must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioConfig {
    /// AAC-LC: AudioSpecificConfig (ISO 14496-3 §1.6.2.1).
    Aac(Vec<u8>),
    /// Opus.
    Opus(OpusConfig),
}

impl AudioConfig {
    /// Of what the encoder says of its stream.
    pub fn of(codec: AudioCodec, config: &[u8]) -> Result<Self, BadParameterSets> {
        match codec {
            AudioCodec::Aac => Ok(AudioConfig::Aac(config.to_vec())),
            AudioCodec::Opus => OpusConfig::of_head(config).map(AudioConfig::Opus),
        }
    }

    /// The codec's name as RFC 6381 has it.
    pub fn codecs(&self) -> String {
        match self {
            AudioConfig::Aac(_) => "mp4a.40.2".to_owned(),
            AudioConfig::Opus(_) => "Opus".to_owned(),
        }
    }

    /// How many packets before a wanted one a decoder has to begin, where it is to be said: Opus in ISOBMFF §4.3.6.2 asks
    /// for it. For AAC no player needs it, some televisions stumble over it, and other packagers leave it out.
    pub fn roll_packets(&self) -> Option<i16> {
        match self {
            AudioConfig::Aac(_) => None,
            AudioConfig::Opus(_) => Some(ROLL_PACKETS),
        }
    }
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
            brand: match self.config {
                VideoConfig::Avc(_) | VideoConfig::Hevc(_) => None,
                // AV1 in ISOBMFF §2.1.
                VideoConfig::Av1(_) => Some(b"av01"),
            },
            roll: None,
        };
        track.file(
            |b| {
                b.nest_full(b"vmhd", 0, 1, |b| {
                    b.zeros(8);
                });
            },
            |b| {
                let (entry, config, record) = self.config.boxes();
                b.nest(entry, |b| {
                    // SampleEntry, then VisualSampleEntry (§12.1.3): 72 dpi, one frame a sample, 24-bit depth.
                    b.zeros(6).u16(1).zeros(16).u16(self.width).u16(self.height);
                    b.u32(0x48_0000).u32(0x48_0000).zeros(4).u16(1).zeros(32).u16(0x18).u16(0xffff);
                    b.nest(config, |b| {
                        b.bytes(&record);
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
            brand: None,
            roll: self.config.roll_packets(),
        };
        track.file(
            |b| {
                b.nest_full(b"smhd", 0, 0, |b| {
                    b.zeros(4);
                });
            },
            |b| {
                let entry = match &self.config {
                    AudioConfig::Aac(_) => b"mp4a",
                    AudioConfig::Opus(_) => b"Opus",
                };
                b.nest(entry, |b| {
                    // SampleEntry, then AudioSampleEntry (§12.2.3): 16 bits, rate as 16.16.
                    b.zeros(6).u16(1).zeros(8).u16(self.channels).u16(16).zeros(4);
                    b.u32(self.sample_rate.get().min(0xffff) << 16);
                    match &self.config {
                        AudioConfig::Aac(config) => {
                            b.nest_full(b"esds", 0, 0, |b| self.elementary_stream(config, b));
                        }
                        AudioConfig::Opus(config) => {
                            b.nest(b"dOps", |b| {
                                b.bytes(&config.record());
                            });
                        }
                    }
                });
            },
        )
    }

    /// ES_Descriptor (ISO 14496-1 §7.2.6.5). All lengths stay below 128, so each takes one byte.
    fn elementary_stream(&self, config: &[u8], b: &mut Boxes) {
        let length = config.len().min(64);
        let (specific, decoder) = (length as u8, length as u8 + 15);
        b.u8(3).u8(decoder + 8).u16(TRACK_ID as u16).u8(0);
        // Object type 0x40: ISO 14496-3 audio. Stream type 5 (audio), reserved bit set.
        b.u8(4)
            .u8(decoder)
            .u8(0x40)
            .u8(5 << 2 | 1)
            .zeros(3)
            .u32(self.bits_per_second)
            .u32(self.bits_per_second);
        b.u8(5).u8(specific).bytes(&config[..length]);
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
    /// A brand that the codec's own specification asks for.
    brand: Option<&'a [u8; 4]>,
    /// How many samples before a wanted one a decoder has to begin.
    roll: Option<i16>,
}

/// The unity matrix (§6.2.2).
const UNITY: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

impl TrackBoxes<'_> {
    fn file(&self, media_header: impl FnOnce(&mut Boxes), entry: impl FnOnce(&mut Boxes)) -> Vec<u8> {
        let mut out = Boxes::new();
        out.nest(b"ftyp", |b| {
            b.bytes(b"cmfc")
                .u32(0)
                .bytes(b"iso6")
                .bytes(b"cmfc")
                .bytes(self.brand.map_or(&[], |brand| brand));
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
                if let Some(distance) = self.roll {
                    // One description of two bytes (§8.9.3, §10.1.1), to which fragments refer.
                    b.nest_full(b"sgpd", 1, 0, |b| {
                        b.bytes(b"roll").u32(2).u32(1).u16(distance.cast_unsigned());
                    });
                }
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
    use reelmill_media::codec::VideoCodec;

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
        let config = VideoConfig::of(VideoCodec::H264, &sets).unwrap();
        let timescale = Timescale::new(15_360).unwrap();
        let video = VideoInit { timescale, width: 640, height: 360, config, colour: [1, 1, 1] };
        let moov = decode(&video.bytes());
        assert!(moov.mvex.is_some());
        assert_eq!(moov.trak[0].mdia.mdhd.timescale, 15_360);
        let Codec::Avc1(avc1) = &moov.trak[0].mdia.minf.stbl.stsd.codecs[0] else { panic!("not avc1") };
        assert_eq!((avc1.visual.width, avc1.visual.height), (640, 360));
        assert_eq!(avc1.avcc.avc_level_indication, 0x1e);

        let audio = AudioInit {
            sample_rate: Timescale::new(48_000).unwrap(),
            channels: 2,
            config: AudioConfig::Aac(vec![0x11, 0x90, 0x56, 0xe5, 0x00]),
            bits_per_second: 128_000,
            delay_samples: 1024,
            language: Some("deu".into()),
        };
        let moov = decode(&audio.bytes());
        let trak = &moov.trak[0];
        assert_eq!(trak.mdia.mdhd.language, "deu");
        assert!(trak.edts.is_some());
        let Codec::Mp4a(mp4a) = &trak.mdia.minf.stbl.stsd.codecs[0] else { panic!("not mp4a") };
        assert_eq!(
            mp4a.esds.es_desc.dec_config.dec_specific.as_ref().unwrap().raw,
            [0x11, 0x90, 0x56, 0xe5, 0x00]
        );
    }
}
