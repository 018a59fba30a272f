//! A writer of boxes: nesting closes each size field by itself.

/// Bytes of boxes in the making.
#[derive(Debug, Default)]
pub struct Boxes {
    out: Vec<u8>,
}

impl Boxes {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Where the next byte will stand.
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// A box (ISO 14496-12 §4.2) around what `body` writes.
    pub fn nest(&mut self, kind: &[u8; 4], body: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.out.len();
        self.u32(0).bytes(kind);
        body(self);
        // Media segments and headers of ours are far below 4 GiB: the largest is capped by the message to the parent.
        let size = (self.out.len() - start) as u32;
        self.patch_u32(start, size);
        self
    }

    /// A full box: version and 24 bits of flags first.
    pub fn nest_full(
        &mut self,
        kind: &[u8; 4],
        version: u8,
        flags: u32,
        body: impl FnOnce(&mut Self),
    ) -> &mut Self {
        self.nest(kind, |b| {
            b.u32(u32::from(version) << 24 | (flags & 0xff_ffff));
            body(b);
        })
    }

    /// Overwrites four bytes written before.
    pub fn patch_u32(&mut self, at: usize, value: u32) {
        if let Some(place) = self.out.get_mut(at..at + 4) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }

    /// Appends as is.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    /// `n` zero bytes.
    pub fn zeros(&mut self, n: usize) -> &mut Self {
        self.out.resize(self.out.len() + n, 0);
        self
    }

    /// Eight bits.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    /// Sixteen bits, big-endian.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Thirty-two bits, big-endian.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Thirty-two bits with a sign, big-endian.
    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Sixty-four bits, big-endian.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }
}
