//! Bounded reading: a source read by byte ranges, and a cursor over bytes at hand.

use std::io;

/// A source of known length that is read by byte ranges.
pub trait ReadAt {
    /// Length in bytes.
    fn length(&self) -> u64;

    /// Fills `to` from `offset` on; the caller keeps the range inside the length.
    fn read_at(&mut self, offset: u64, to: &mut [u8]) -> io::Result<()>;
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Mp4Error {
    /// The source could not be read.
    #[error("the source cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It promises bytes that are not there.
    #[error("the file is cut short: {0}")]
    Truncated(&'static str),
    /// It contradicts itself.
    #[error("the file is damaged: {0}")]
    Corrupt(&'static str),
    /// Beyond what we accept.
    #[error("the file has {0}")]
    TooLarge(&'static str),
}

/// Reads big-endian fields off the front of a slice; at its end every read is [`Mp4Error::Corrupt`].
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

const SHORT: Mp4Error = Mp4Error::Corrupt("a box ends too early");

impl<'a> Cursor<'a> {
    /// A cursor at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Bytes left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Mp4Error> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(SHORT)?;
        self.rest = tail;
        Ok(head)
    }

    /// Passes over `n` bytes.
    pub fn skip(&mut self, n: usize) -> Result<(), Mp4Error> {
        self.take(n).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Mp4Error> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(SHORT)?;
        self.rest = tail;
        Ok(*head)
    }

    /// Eight bits.
    pub fn u8(&mut self) -> Result<u8, Mp4Error> {
        self.array().map(u8::from_be_bytes)
    }

    /// Sixteen bits.
    pub fn u16(&mut self) -> Result<u16, Mp4Error> {
        self.array().map(u16::from_be_bytes)
    }

    /// Thirty-two bits.
    pub fn u32(&mut self) -> Result<u32, Mp4Error> {
        self.array().map(u32::from_be_bytes)
    }

    /// Thirty-two bits with a sign.
    pub fn i32(&mut self) -> Result<i32, Mp4Error> {
        self.array().map(i32::from_be_bytes)
    }

    /// Sixty-four bits.
    pub fn u64(&mut self) -> Result<u64, Mp4Error> {
        self.array().map(u64::from_be_bytes)
    }

    /// Four characters.
    pub fn kind(&mut self) -> Result<[u8; 4], Mp4Error> {
        self.array()
    }

    /// Version and flags of a full box.
    pub fn full(&mut self) -> Result<(u8, u32), Mp4Error> {
        let word = self.u32()?;
        Ok(((word >> 24) as u8, word & 0xff_ffff))
    }

    /// A 32-bit count of rows of `row_bytes` each, bounded by the bytes that are there.
    pub fn count(&mut self, row_bytes: usize) -> Result<usize, Mp4Error> {
        let count = self.u32()? as usize;
        match count.checked_mul(row_bytes) {
            Some(bytes) if bytes <= self.left() => Ok(count),
            Some(_) | None => Err(Mp4Error::Corrupt("a table is longer than its box")),
        }
    }
}

/// The boxes in `bytes`, as (kind, body). A last box that is cut short is an error item; iteration ends there.
pub fn boxes(bytes: &[u8]) -> impl Iterator<Item = Result<([u8; 4], &[u8]), Mp4Error>> {
    let mut cursor = Cursor::new(bytes);
    std::iter::from_fn(move || {
        // QuickTime ends some containers with 32 zero bits.
        if cursor.left() < 8 {
            return None;
        }
        let next = one_box(&mut cursor);
        if next.is_err() {
            cursor = Cursor::new(&[]);
        }
        Some(next)
    })
}

fn one_box<'a>(cursor: &mut Cursor<'a>) -> Result<([u8; 4], &'a [u8]), Mp4Error> {
    let size = cursor.u32()?;
    let kind = cursor.kind()?;
    let body = match size {
        0 => cursor.left(),
        1 => usize::try_from(cursor.u64()?).ok().and_then(|n| n.checked_sub(16)).ok_or(SHORT)?,
        n => (n as usize).checked_sub(8).ok_or(SHORT)?,
    };
    Ok((kind, cursor.take(body)?))
}

/// The body of the first box of a kind in `bytes`.
pub fn find<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Result<Option<&'a [u8]>, Mp4Error> {
    for next in boxes(bytes) {
        let (found, body) = next?;
        if found == *kind {
            return Ok(Some(body));
        }
    }
    Ok(None)
}

/// Like [`find`], for boxes that must be there.
pub fn need<'a>(bytes: &'a [u8], kind: &[u8; 4], without: &'static str) -> Result<&'a [u8], Mp4Error> {
    find(bytes, kind)?.ok_or(Mp4Error::Corrupt(without))
}
