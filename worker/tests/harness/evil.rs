//! Inputs made to harm, each from one number: texts that name other files, boxes that lie, and damaged media.

use reelmill_e2e::fixtures::{Bad, Kind, bad, fixture};

/// One of each container, and all ways to lay out an MP4.
const WHOLE: [Kind; 9] = [
    Kind::Landscape,
    Kind::MoovAtEnd,
    Kind::Fragmented,
    Kind::Vfr,
    Kind::OpenGop,
    Kind::OneFrame,
    Kind::Mkv,
    Kind::WebM,
    Kind::MpegTs,
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
            2 => ("deep nesting", nested(chance)),
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
    let heads: [&[u8]; 6] = [
        b"\0\0\0\x18ftypisom\0\0\x02\0isommp42",
        b"\0\0\0\0mdat",
        b"\0\0\0\x01mdat\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska\x42\x87\x81\x04\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff",
        b"RIFF\xff\xff\xff\xffAVI LIST\xff\xff\xff\xffhdrl",
        b"\x47\x40\0\x10\0",
    ];
    let mut out = chance.of_these(&heads).to_vec();
    out.extend(text(chance));
    out
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
