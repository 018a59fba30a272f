//! One coded frame or audio packet.

use std::ptr::NonNull;

use ffmpeg_next::ffi;

use crate::error::{AvError, check};

/// The largest packet accepted, in bytes: an intra-only 8K frame is below it.
const MAX_PACKET_BYTES: usize = 256 << 20;

/// Owns an `AVPacket`. Times are ticks of whatever clock the stream was opened with.
pub struct Packet(NonNull<ffi::AVPacket>);

// SAFETY: an AVPacket has no ties to a thread, its buffers are reference-counted atomically, and we own it alone.
unsafe impl Send for Packet {}

impl Packet {
    /// An empty packet, to be read into.
    pub fn new() -> Result<Self, AvError> {
        // SAFETY: the call takes nothing; null means no memory.
        NonNull::new(unsafe { ffi::av_packet_alloc() }).map(Self).ok_or(AvError::NoMemory("av_packet_alloc"))
    }

    /// A packet holding a copy of `data`.
    pub fn from_bytes(data: &[u8], pts: i64, dts: i64, key: bool) -> Result<Self, AvError> {
        let size = i32::try_from(data.len())
            .ok()
            .filter(|_| data.len() <= MAX_PACKET_BYTES)
            .ok_or(AvError::OutOfRange { what: "packet size in bytes", value: data.len() as i64 })?;
        let mut packet = Self::new()?;
        // SAFETY: av_new_packet allocates `size` bytes and zeroed padding behind them; we fill exactly `size`.
        unsafe {
            check("av_new_packet", ffi::av_new_packet(packet.as_mut_ptr(), size))?;
            std::ptr::copy_nonoverlapping(data.as_ptr(), packet.0.as_ref().data, data.len());
            let raw = packet.0.as_mut();
            raw.pts = pts;
            raw.dts = dts;
            raw.flags = if key { ffi::AV_PKT_FLAG_KEY } else { 0 };
        }
        Ok(packet)
    }

    /// The coded bytes.
    pub fn data(&self) -> &[u8] {
        let raw = self.raw();
        match usize::try_from(raw.size) {
            // SAFETY: a packet with data and a positive size owns that many readable bytes while we hold it.
            Ok(size) if size > 0 && !raw.data.is_null() => unsafe {
                std::slice::from_raw_parts(raw.data, size)
            },
            Ok(_) | Err(_) => &[],
        }
    }

    /// Presentation time in ticks, if said.
    pub fn pts(&self) -> Option<i64> {
        said(self.raw().pts)
    }

    /// Decode time in ticks, if said.
    pub fn dts(&self) -> Option<i64> {
        said(self.raw().dts)
    }

    /// Replaces both times, in ticks.
    pub fn set_times(&mut self, pts: i64, dts: i64) {
        // SAFETY: plain fields of a packet we own.
        let raw = unsafe { self.0.as_mut() };
        raw.pts = pts;
        raw.dts = dts;
    }

    /// Duration in ticks, if said.
    pub fn duration(&self) -> Option<i64> {
        Some(self.raw().duration).filter(|d| *d > 0)
    }

    /// Samples at the start and at the end of a packet of sound that are not to be presented: what an encoder put
    /// there to begin and to fill up with. The decoder leaves them out.
    pub fn trimmed(&self) -> (u32, u32) {
        let mut bytes = 0;
        // SAFETY: a valid packet, and room for the size.
        let data = unsafe {
            ffi::av_packet_get_side_data(
                self.as_ptr(),
                ffi::AVPacketSideDataType::AV_PKT_DATA_SKIP_SAMPLES,
                &mut bytes,
            )
        };
        if data.is_null() || bytes < 8 {
            return (0, 0);
        }
        // SAFETY: the side data has at least two 32-bit integers, and need not be aligned.
        let [start, end] = unsafe { data.cast::<[u32; 2]>().read_unaligned() };
        (u32::from_le(start), u32::from_le(end))
    }

    /// Byte position in the container, if known.
    pub fn position(&self) -> Option<u64> {
        u64::try_from(self.raw().pos).ok()
    }

    /// Number of the stream it belongs to.
    pub fn stream(&self) -> u32 {
        u32::try_from(self.raw().stream_index).unwrap_or(0)
    }

    /// Decoding may start here, as the container or parser says.
    pub fn is_key(&self) -> bool {
        self.raw().flags & ffi::AV_PKT_FLAG_KEY != 0
    }

    fn raw(&self) -> &ffi::AVPacket {
        // SAFETY: the pointer is valid from allocation to drop.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn as_ptr(&self) -> *const ffi::AVPacket {
        self.0.as_ptr()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut ffi::AVPacket {
        self.0.as_ptr()
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        let mut raw = self.0.as_ptr();
        // SAFETY: we own the packet; the call frees it and nulls our copy of the pointer.
        unsafe { ffi::av_packet_free(&mut raw) };
    }
}

/// `None` for libav's mark of an unknown time.
pub(crate) fn said(time: i64) -> Option<i64> {
    (time != ffi::AV_NOPTS_VALUE).then_some(time)
}
