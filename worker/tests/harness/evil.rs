//! Inputs made to harm, each from one number: texts that name other files, boxes that lie, and damaged media.

use reelmill_e2e::fixtures::{Bad, Kind, SoundFile, bad, fixture, sound_file};

/// All ways to lay out an MP4, and one of each container with a picture.
const WHOLE: [Kind; 15] = [
    Kind::Landscape,
    Kind::MoovAtEnd,
    Kind::Fragmented,
    Kind::Vfr,
    Kind::OpenGop,
    Kind::OneFrame,
    Kind::Mkv,
    Kind::WebM,
    Kind::MpegTs,
    Kind::Flv,
    Kind::Spark,
    Kind::Wmv,
    Kind::Mpg,
    Kind::Ogv,
    Kind::Avi,
];

/// Media of which a damaged copy is made is no longer than this, in bytes: what harms lies at its start and end.
const MOST_BYTES: usize = 160 << 10;

/// Texts that some demuxer would follow to a file or an address.
const TEXTS: [&str; 10] = [
    "#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "\u{feff}#EXTM3U\n#EXT-X-MAP:URI=\"/etc/passwd\"\n#EXTINF:1,\nhttp://127.0.0.1:1/\n",
    "ffconcat version 1.0\nfile /etc/passwd\n",
    "file '/etc/passwd'\nfile 'concat:/etc/passwd|/etc/hosts'\n",
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5000 RTP/AVP 96\n",
    "<?xml version=\"1.0\"?><MPD><BaseURL>file:///etc/passwd</BaseURL></MPD>",
    "[playlist]\nFile1=file:///etc/passwd\nNumberOfEntries=1\n",
    ";FFMETADATA1\ntitle=x\n",
    "RTSPtext rtsp://127.0.0.1:1/x\r\n",
    "<smil><body><video src=\"file:///etc/passwd\"/></body></smil>",
];

/// Numbers at which sums and products break.
const EDGES: [u32; 12] = [0, 1, 2, 7, 8, 0x7f, 0xff, 0xffff, 0x7fff_fffe, 0x7fff_ffff, 0x8000_0000, u32::MAX];

/// Boxes whose fields say how much there is, how fast it goes and where it lies.
const FIELDS: [&[u8; 4]; 24] = [
    b"mvhd", b"tkhd", b"mdhd", b"elst", b"stts", b"ctts", b"stsz", b"stsc", b"stco", b"stss", b"stsd",
    b"avc1", b"avcC", b"mp4a", b"esds", b"hdlr", b"mvex", b"trex", b"tfhd", b"tfdt", b"trun", b"edts",
    b"trak", b"moov",
];

/// A fixed generator (xorshift64*), so that a failure can be had again.
struct Chance(u64);

impl Chance {
    fn of(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }

    fn of_these<'a, T>(&mut self, these: &'a [T]) -> &'a T {
        &these[self.below(these.len())]
    }

    fn edge(&mut self) -> u32 {
        if self.below(4) == 0 { self.below(1 << 31) as u32 } else { *self.of_these(&EDGES) }
    }
}

/// The maker of inputs.
pub struct Evil {
    whole: Vec<Vec<u8>>,
    /// For each MP4, which come first, where names of boxes lie in it.
    boxes: Vec<Vec<usize>>,
}

impl Evil {
    /// Reads what it damages.
    pub fn new() -> Self {
        let read = |kind: Kind| {
            let mut bytes = std::fs::read(fixture(kind).path).unwrap();
            // The tables must stay where the offsets say, so only media that comes after them is cut off.
            let tables_last = kind == Kind::MoovAtEnd;
            bytes.truncate(if tables_last { bytes.len() } else { MOST_BYTES });
            bytes
        };
        let mut whole: Vec<_> = WHOLE.into_iter().map(read).collect();
        // An MP4 cut short is refused before its tables matter, so these keep their length, as zeros.
        for (kind, bytes) in WHOLE.into_iter().zip(&mut whole).take(6) {
            let length = std::fs::metadata(fixture(kind).path).unwrap().len() as usize;
            bytes.resize(length, 0);
        }
        whole.extend(SoundFile::ALL.map(|kind| {
            let mut bytes = std::fs::read(sound_file(kind)).unwrap();
            bytes.truncate(MOST_BYTES);
            bytes
        }));
        whole.extend([Bad::Png, Bad::SubtitlesOnly].map(|kind| std::fs::read(bad(kind)).unwrap()));
        let boxes = whole.iter().take(6).map(|bytes| names(bytes)).collect();
        Self { whole, boxes }
    }

    /// Input number `seed`, and what kind of harm it is meant to do.
    pub fn input(&self, seed: u64) -> (&'static str, Vec<u8>) {
        let chance = &mut Chance::of(seed);
        match seed % 10 {
            0 => ("text", text(chance)),
            1 => ("text in a box", dressed(chance)),
            2 if chance.below(2) == 0 => ("deep nesting", nested(chance)),
            2 => self.bombs(chance),
            3 => ("boxes that lie about their size", self.sizes(chance)),
            4 | 5 => ("absurd fields", self.fields(chance)),
            6 => ("cut short", self.cut(chance)),
            7 => ("flipped bits at the start", self.flipped(chance, 4096)),
            8 => ("flipped bits", self.flipped(chance, usize::MAX)),
            _ => ("pieces", self.pieces(chance)),
        }
    }

    fn any(&self, chance: &mut Chance) -> Vec<u8> {
        chance.of_these(&self.whole).clone()
    }

    /// An MP4, and where the boxes of the kinds above lie in it.
    fn mp4(&self, chance: &mut Chance) -> (Vec<u8>, &[usize]) {
        let number = chance.below(self.boxes.len());
        (self.whole[number].clone(), &self.boxes[number])
    }

    fn sizes(&self, chance: &mut Chance) -> Vec<u8> {
        let (mut bytes, boxes) = self.mp4(chance);
        for _ in 0..1 + chance.below(3) {
            let at = *chance.of_these(boxes) - 4;
            put(&mut bytes, at, chance.edge());
        }
        bytes
    }

    fn fields(&self, chance: &mut Chance) -> Vec<u8> {
        let (mut bytes, boxes) = self.mp4(chance);
        for _ in 0..1 + chance.below(6) {
            let at = *chance.of_these(boxes) + 4 + chance.below(12) * 4;
            put(&mut bytes, at, chance.edge());
        }
        bytes
    }

    /// What is small and says that it is large, or endless.
    fn bombs(&self, chance: &mut Chance) -> (&'static str, Vec<u8>) {
        let (mut bytes, boxes) = self.mp4(chance);
        let of = |bytes: &[u8], kind: &[u8; 4]| -> Vec<usize> {
            boxes.iter().copied().filter(|at| bytes[*at..].starts_with(kind)).collect()
        };
        match chance.below(5) {
            0 => {
                // Version, flags and two dates come before it.
                for at in [of(&bytes, b"mdhd"), of(&bytes, b"mvhd")].concat() {
                    put(&mut bytes, at + 16, 0);
                }
                ("clocks that stand still", bytes)
            }
            1 => {
                // A constant sample size, and so no table that has to be there.
                for at in of(&bytes, b"stsz") {
                    put(&mut bytes, at + 8, 1 + chance.below(2) as u32);
                    put(&mut bytes, at + 12, u32::MAX - chance.below(2) as u32);
                }
                ("samples without end", bytes)
            }
            2 => {
                for at in of(&bytes, b"avc1") {
                    put(&mut bytes, at + 28, u32::MAX);
                }
                for at in of(&bytes, b"tkhd") {
                    put(&mut bytes, at + 80, u32::MAX);
                }
                ("huge pictures", bytes)
            }
            3 => ("an edit list without end", endless_edits(&bytes, chance)),
            _ => ("a bomb of FLAC", flac_bomb(chance)),
        }
    }

    fn cut(&self, chance: &mut Chance) -> Vec<u8> {
        let mut bytes = self.any(chance);
        bytes.truncate(chance.below(bytes.len()));
        bytes
    }

    fn flipped(&self, chance: &mut Chance, within: usize) -> Vec<u8> {
        let mut bytes = self.any(chance);
        let within = within.min(bytes.len());
        for _ in 0..1 + chance.below(64) {
            let at = chance.below(within);
            bytes[at] ^= 1 << chance.below(8);
        }
        bytes
    }

    /// Stretches doubled, dropped, zeroed and swapped, of one file or two.
    fn pieces(&self, chance: &mut Chance) -> Vec<u8> {
        let (a, b) = (self.any(chance), self.any(chance));
        let mut out = Vec::new();
        for _ in 0..1 + chance.below(5) {
            let from = if chance.below(3) > 0 { &a } else { &b };
            let start = if out.is_empty() { 0 } else { chance.below(from.len()) };
            let end = start + chance.below(from.len() - start);
            out.extend_from_slice(&from[start..end]);
            out.extend(std::iter::repeat_n(0, chance.below(300)));
        }
        out
    }
}

fn names(bytes: &[u8]) -> Vec<usize> {
    (4..bytes.len() - 4).filter(|at| FIELDS.iter().any(|f| bytes[*at..].starts_with(*f))).collect()
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(field) = bytes.get_mut(at..at + 4) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

fn text(chance: &mut Chance) -> Vec<u8> {
    let mut out = vec![b' '; chance.below(3) * chance.below(40)];
    out.extend(chance.of_these(&TEXTS).bytes());
    out.extend(std::iter::repeat_n(b'\n', chance.below(9000)));
    out
}

fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes(), kind.as_slice(), body].concat()
}

/// A text behind the first bytes of a container.
fn dressed(chance: &mut Chance) -> Vec<u8> {
    let heads: [&[u8]; 14] = [
        b"\0\0\0\x18ftypisom\0\0\x02\0isommp42",
        b"\0\0\0\0mdat",
        b"\0\0\0\x01mdat\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska\x42\x87\x81\x04\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff",
        b"RIFF\xff\xff\xff\xffAVI LIST\xff\xff\xff\xffhdrl",
        b"\x47\x40\0\x10\0",
        b"FLV\x01\x05\0\0\0\x09\0\0\0\0\x12\0\x20\0",
        b"OggS\0\x02\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x01\x1e\x01vorbis",
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c\xff\xff\xff\xff\0\0\0\0\x06\0\0\0\x01\x02",
        b"\0\0\x01\xba\x44\0\x04\0\x04\x01\x01\x89\xc3\xf8",
        b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x02\0\x80\xbb\0\0\0\xee\x02\0\x04\0\x10\0data\xff\xff\xff\xff",
        b"fLaC\0\0\0\x22",
        b"ID3\x04\0\0\x7f\x7f\x7f\x7f",
        b"\xff\xfb\x90\x64",
    ];
    let mut out = chance.of_these(&heads).to_vec();
    out.extend(text(chance));
    out
}

/// `moov` anew with as many edits as fit into a mebibyte, each of which shows the same moment.
fn endless_edits(mp4: &[u8], chance: &mut Chance) -> Vec<u8> {
    let edit = [chance.edge().to_be_bytes(), 0u32.to_be_bytes(), 0x1_0000u32.to_be_bytes()].concat();
    let count = (1usize << 20) / edit.len();
    let list = [&0u32.to_be_bytes()[..], &(count as u32).to_be_bytes(), &edit.repeat(count)].concat();
    let edits = boxed(b"edts", &boxed(b"elst", &list));
    let Some(track) = mp4.windows(4).position(|name| name == b"trak") else { return mp4.to_vec() };
    let Some(movie) = mp4.windows(4).position(|name| name == b"moov") else { return mp4.to_vec() };
    let mut out = mp4.to_vec();
    // Both boxes that hold it grow with it.
    for at in [movie, track] {
        let size = mp4[at - 4..at].iter().fold(0u32, |size, byte| size << 8 | u32::from(*byte));
        put(&mut out, at - 4, size.wrapping_add(edits.len() as u32));
    }
    out.splice(track + 4..track + 4, edits);
    out
}

/// Frames of a dozen bytes with 65,536 samples of eight channels each, all silent.
fn flac_bomb(chance: &mut Chance) -> Vec<u8> {
    // STREAMINFO: block sizes, frame sizes, then rate, channels, bits and length, and no checksum.
    let mut out = b"fLaC\x80\0\0\x22\xff\xff\xff\xff\0\0\0\0\0\0\x0a\xc4\x4e\xf0\0\0\0\0".to_vec();
    out.extend([0; 16]);
    for number in 0..64 + chance.below(64) as u8 {
        let mut frame = vec![0xff, 0xf8, 0x79, 0x78, number & 0x7f, 0xff, 0xff];
        frame.push(crc8(&frame));
        frame.extend([0; 24]);
        let crc = crc16(&frame);
        frame.extend(crc.to_be_bytes());
        out.extend(frame);
    }
    out
}

/// RFC 9639 §9.1.8.
fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 != 0 { crc << 1 ^ 0x07 } else { crc << 1 })
    })
}

/// RFC 9639 §9.3.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let crc = crc ^ u16::from(*byte) << 8;
        (0..8).fold(crc, |crc, _| if crc & 0x8000 != 0 { crc << 1 ^ 0x8005 } else { crc << 1 })
    })
}

/// Containers in containers, as deep as a stack or deeper; or one that is its own parent, as its size says.
fn nested(chance: &mut Chance) -> Vec<u8> {
    let kinds: [&[u8; 4]; 7] = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta"];
    let depth = chance.below(6000);
    let mut sizes = Vec::new();
    for level in 0..depth {
        sizes.extend((((depth - level) * 8) as u32).to_be_bytes());
        sizes.extend(if level == 0 { b"moov" } else { *chance.of_these(&kinds) });
    }
    [boxed(b"ftyp", b"isom\0\0\0\0isom"), sizes].concat()
}
