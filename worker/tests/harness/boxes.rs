//! What the boxes of a finished rendition say, read by an independent reader.

#![allow(dead_code)] // Each test program uses its own part of this.

use mp4_atom::{Decode, Ftyp, Mdat, Moof, Moov};
use reelmill_worker::exec::protocol::SegmentOutput;

/// One sample of a segment, in ticks.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub dts: i64,
    pub pts: i64,
    pub duration: i64,
    pub sync: bool,
}

/// The samples of a segment, in decode order.
pub fn rows(segment: &SegmentOutput) -> Vec<Row> {
    let mut rest = segment.bytes.as_slice();
    let moof = Moof::decode(&mut rest).unwrap();
    let mdat = Mdat::decode(&mut rest).unwrap();
    assert!(rest.is_empty(), "something follows the mdat box");
    assert_eq!(moof.mfhd.sequence_number, segment.number + 1);
    let traf = &moof.traf[0];
    let mut dts = i64::try_from(traf.tfdt.as_ref().unwrap().base_media_decode_time).unwrap();
    let mut out = Vec::new();
    let mut bytes = 0;
    for entry in traf.trun[0].samples.iter() {
        let duration = i64::from(entry.duration.unwrap());
        let flags = entry.flags.or(traf.tfhd.default_sample_flags).unwrap();
        let pts = dts + entry.cts.unwrap_or(0);
        out.push(Row { dts, pts, duration, sync: flags & 0x1_0000 == 0 });
        dts += duration;
        bytes += entry.size.unwrap() as usize;
    }
    assert_eq!(bytes, mdat.data.len(), "sample sizes fill the mdat box");
    out
}

/// The coded samples of a segment, in decode order.
pub fn samples(segment: &SegmentOutput) -> Vec<Vec<u8>> {
    let mut rest = segment.bytes.as_slice();
    let moof = Moof::decode(&mut rest).unwrap();
    let mdat = Mdat::decode(&mut rest).unwrap().data;
    let mut at = 0;
    let mut next = |size: u32| {
        at += size as usize;
        mdat[at - size as usize..at].to_vec()
    };
    moof.traf[0].trun[0].samples.iter().map(|entry| next(entry.size.unwrap())).collect()
}

/// The `moov` of an init segment.
pub fn moov(init: &[u8]) -> Moov {
    let mut rest = init;
    Ftyp::decode(&mut rest).unwrap();
    let moov = Moov::decode(&mut rest).unwrap();
    assert!(rest.is_empty());
    moov
}

/// Samples of the encoder's delay that ffmpeg hands out all the same.
pub fn unskipped(init: &[u8]) -> usize {
    let moov = moov(init);
    match &moov.trak[0].mdia.minf.stbl.stsd.codecs[0] {
        // ffmpeg leaves the edit list of a fragmented file aside; Opus has its pre-skip in the decoder's setup as well.
        mp4_atom::Codec::Mp4a(_) => 1024,
        mp4_atom::Codec::Opus(opus) => {
            assert_eq!(
                (opus.dops.output_channel_count, opus.dops.pre_skip, opus.dops.input_sample_rate),
                (2, 312, 48_000)
            );
            0
        }
        other => panic!("an entry nobody planned: {other:?}"),
    }
}
