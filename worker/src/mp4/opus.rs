//! Opus in MP4 (Encapsulation of Opus in ISO Base Media File Format 0.6.8).

use super::video_config::BadParameterSets;

/// Packets of 20 ms that a decoder takes to settle: 80 ms (§4.3.6.2).
pub const ROLL_PACKETS: i16 = -4;

/// What a decoder of Opus must know, for one or two channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpusConfig {
    channels: u8,
    /// Samples at 48 kHz.
    pre_skip: u16,
    /// Hertz, for information only.
    input_rate: u32,
    /// dB × 256.
    gain: i16,
}

impl OpusConfig {
    /// Of an identification header (RFC 7845 §5.1).
    pub fn of_head(head: &[u8]) -> Result<Self, BadParameterSets> {
        let fields: Option<[u8; 10]> =
            head.strip_prefix(b"OpusHead\x01").and_then(|rest| rest.try_into().ok());
        let Some([channels @ (1 | 2), p0, p1, r0, r1, r2, r3, g0, g1, 0]) = fields else {
            return Err(BadParameterSets("no plain OpusHead"));
        };
        Ok(Self {
            channels,
            pre_skip: u16::from_le_bytes([p0, p1]),
            input_rate: u32::from_le_bytes([r0, r1, r2, r3]),
            gain: i16::from_le_bytes([g0, g1]),
        })
    }

    /// The body of a `dOps` box (§4.3.2), which is big-endian.
    pub fn record(self) -> Vec<u8> {
        let mut out = vec![0, self.channels];
        out.extend_from_slice(&self.pre_skip.to_be_bytes());
        out.extend_from_slice(&self.input_rate.to_be_bytes());
        out.extend_from_slice(&self.gain.to_be_bytes());
        out.push(0);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_byte_order_changes() {
        let head = b"OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\xfe\xff\x00";
        let config = OpusConfig::of_head(head).unwrap();
        assert_eq!(config.record(), [0, 2, 1, 0x38, 0, 0, 0xbb, 0x80, 0xff, 0xfe, 0]);
        assert!(OpusConfig::of_head(&head[..18]).is_err());
        let mut surround = *head;
        surround[9] = 6;
        assert!(OpusConfig::of_head(&surround).is_err());
    }
}
