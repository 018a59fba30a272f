//! A Matroska file as if it began with the cluster of one sample (RFC 9559). What a demuxer must know before the first
//! cluster lies at the front, and each cluster stands for itself: so cues, which come last where they come at all, are
//! not missed, and what lies between is not read.

use std::io::{self, Read, Seek, SeekFrom};

use super::parent::Input;
use crate::mp4::read::ReadAt;

const EBML: u32 = 0x1A45_DFA3;
const SEGMENT: u32 = 0x1853_8067;
const INFO: u32 = 0x1549_A966;
const TRACKS: u32 = 0x1654_AE6B;
const CLUSTER: u32 = 0x1F43_B675;
const SIMPLE_BLOCK: u32 = 0xA3;
const BLOCK_GROUP: u32 = 0xA0;
const BLOCK: u32 = 0xA1;

/// An element's id and size take so many bytes at most.
const MAX_HEADER_BYTES: usize = 12;
/// Elements in front of the first cluster, at most.
const MAX_ELEMENTS: usize = 64;
/// What they say of the tracks has no more bytes than this.
const MAX_HEAD_BYTES: u64 = 4 << 20;
/// A cluster is looked for in so many bytes before its sample, at most: multiplexers begin one every five seconds or
/// five megabytes.
const MAX_CLUSTER_BYTES: u64 = 32 << 20;
/// Bytes looked at first; then each time as many as before.
const FIRST_LOOK_BYTES: u64 = 16 << 10;
/// Places that look like the beginning of a cluster and are none, at most.
const MAX_MISTAKES: usize = 64;

/// The header of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Element {
    id: u32,
    header_bytes: u64,
    /// Unsaid where whoever wrote it did not know.
    data_bytes: Option<u64>,
}

impl Element {
    /// Reads what `bytes` begin with (RFC 8794 §4 to §6).
    fn parse(bytes: &[u8]) -> Option<Element> {
        let first = *bytes.first()?;
        let id_bytes = first.leading_zeros() as usize + 1;
        let id = bytes.get(..id_bytes).filter(|id| id.len() <= 4)?;
        let size = bytes.get(id_bytes..)?;
        let size_bytes = size.first()?.leading_zeros() as usize + 1;
        let size = size.get(..size_bytes).filter(|size| size.len() <= 8)?;
        let number = |bytes: &[u8]| bytes.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        let most = (1u64 << (7 * size_bytes)) - 1;
        let data_bytes = number(size) & most;
        Some(Element {
            id: u32::try_from(number(id)).ok()?,
            header_bytes: (id_bytes + size_bytes) as u64,
            data_bytes: Some(data_bytes).filter(|bytes| *bytes != most),
        })
    }

    fn at(input: &mut Input, offset: u64) -> io::Result<Option<Element>> {
        let mut bytes = [0; MAX_HEADER_BYTES];
        let there = input.length().saturating_sub(offset).min(bytes.len() as u64) as usize;
        input.read_at(offset, &mut bytes[..there])?;
        Ok(Element::parse(&bytes[..there]))
    }

    /// With its header; nothing where its end is unsaid.
    fn bytes(&self) -> Option<u64> {
        self.data_bytes?.checked_add(self.header_bytes)
    }
}

/// The head of a file and its clusters from one on, as if nothing lay between them.
pub struct Spliced {
    /// What it begins with.
    begins: Vec<u8>,
    /// The rest lies so much further on in the file.
    left_out: u64,
    input: Input,
    position: u64,
}

impl Spliced {
    /// Begins with the cluster of the block at byte `block` of a file; nothing where that cannot be found.
    pub fn at(mut front: Input, mut input: Input, block: u64) -> io::Result<Option<Spliced>> {
        let Some((mut begins, first)) = head(&mut front)? else { return Ok(None) };
        let Some(cluster) = cluster_of(&mut input, first, block)? else { return Ok(None) };
        begins.extend(cluster);
        let left_out = block.saturating_sub(begins.len() as u64);
        Ok(Some(Spliced { begins, left_out, input, position: 0 }))
    }

    /// How much further on everything in a cluster lies in the file than here, in bytes.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

impl Read for Spliced {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let held =
            usize::try_from(self.position).ok().and_then(|at| self.begins.get(at..)).unwrap_or_default();
        let read = if held.is_empty() {
            self.input.seek(SeekFrom::Start(self.position.saturating_add(self.left_out)))?;
            self.input.read(to)?
        } else {
            let bytes = held.len().min(to.len());
            to[..bytes].copy_from_slice(&held[..bytes]);
            bytes
        };
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for Spliced {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.input.length().saturating_sub(self.left_out).checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

/// What a demuxer must know, and where the first cluster begins. Left out is what says where other things lie.
fn head(input: &mut Input) -> io::Result<Option<(Vec<u8>, u64)>> {
    let mut head = Vec::new();
    let (mut at, mut has_tracks) = (0u64, false);
    for _ in 0..MAX_ELEMENTS {
        let Some(element) = Element::at(input, at)? else { return Ok(None) };
        let (kept, bytes) = match element.id {
            CLUSTER => return Ok(has_tracks.then_some((head, at))),
            SEGMENT => (true, Some(element.header_bytes)),
            EBML | INFO | TRACKS => (true, element.bytes()),
            _ => (false, element.bytes()),
        };
        let next = bytes.and_then(|bytes| at.checked_add(bytes)).filter(|next| *next <= input.length());
        let Some(next) = next else { return Ok(None) };
        if kept {
            let begin = head.len();
            if begin as u64 + (next - at) > MAX_HEAD_BYTES {
                return Ok(None);
            }
            head.resize(begin + (next - at) as usize, 0);
            input.read_at(at, &mut head[begin..])?;
        }
        has_tracks |= element.id == TRACKS;
        at = next;
    }
    Ok(None)
}

/// The cluster of which the elements lead to the block at `block`, as far as that. None begins before `first`.
fn cluster_of(input: &mut Input, first: u64, block: u64) -> io::Result<Option<Vec<u8>>> {
    const ID: [u8; 4] = CLUSTER.to_be_bytes();
    let least = first.max(block.saturating_sub(MAX_CLUSTER_BYTES));
    let (mut from, mut before, mut mistakes) = (block, Vec::new(), 0);
    while from > least {
        let look = (block - from).max(FIRST_LOOK_BYTES).min(from - least);
        let mut bytes = vec![0; look as usize];
        input.read_ahead_to(from);
        input.read_at(from - look, &mut bytes)?;
        from -= look;
        bytes.append(&mut before);
        before = bytes;
        // An id may lie across what was looked at before.
        let mut ends = before.len().min(look as usize + ID.len() - 1);
        while let Some(at) = before[..ends].windows(ID.len()).rposition(|bytes| bytes == ID) {
            if leads_to_its_end(&before[at..]) {
                input.read_ahead_to(u64::MAX);
                return Ok(Some(before.split_off(at)));
            }
            mistakes += 1;
            if mistakes > MAX_MISTAKES {
                return Ok(None);
            }
            ends = at + ID.len() - 1;
        }
    }
    Ok(None)
}

/// Whether these bytes are a cluster up to where the data of one of its blocks begin.
fn leads_to_its_end(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(element) = Element::parse(rest) {
        let Some(data) = rest.get(element.header_bytes as usize..) else { return false };
        let inside = match element.id {
            // One does not lie in another.
            CLUSTER => (rest.len() == bytes.len()).then_some(0),
            BLOCK_GROUP => Some(0),
            SIMPLE_BLOCK | BLOCK if data.is_empty() => return true,
            _ => element.data_bytes,
        };
        let Some(next) = inside.and_then(|bytes| data.get(usize::try_from(bytes).ok()?..)) else {
            return false;
        };
        rest = next;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(id: u32, data: &[u8]) -> Vec<u8> {
        let id = id.to_be_bytes();
        let mut out = id[id.iter().position(|byte| *byte > 0).unwrap()..].to_vec();
        out.push(0x80 | data.len() as u8);
        out.extend(data);
        out
    }

    #[test]
    fn headers_are_read_as_the_specification_has_them() {
        let parsed = |bytes: &[u8]| Element::parse(bytes).map(|e| (e.id, e.header_bytes, e.data_bytes));
        assert_eq!(parsed(&[0xA3, 0x85]), Some((SIMPLE_BLOCK, 2, Some(5))));
        assert_eq!(parsed(&[0x1F, 0x43, 0xB6, 0x75, 0x40, 0x02]), Some((CLUSTER, 6, Some(2))));
        let unknown = [0x1F, 0x43, 0xB6, 0x75, 1, 255, 255, 255, 255, 255, 255, 255];
        assert_eq!(parsed(&unknown), Some((CLUSTER, 12, None)));
        for cut in [&[][..], &[0], &[0x08, 1, 1, 1, 1, 0x81], &[0xA3], &[0xA3, 0x40], &[0xA3, 0]] {
            assert_eq!(parsed(cut), None, "{cut:?}");
        }
    }

    #[test]
    fn a_cluster_is_one_that_leads_to_the_block() {
        let time = element(0xE7, &[0]);
        let other = element(SIMPLE_BLOCK, &[9; 20]);
        let cluster = [element(CLUSTER, &[]), time, other].concat();
        let grouped = [cluster.clone(), vec![0xA0, 0x90, 0xA1, 0x88]].concat();
        assert!(leads_to_its_end(&[&cluster[..], &[0xA3, 0x85]].concat()));
        assert!(leads_to_its_end(&grouped));
        for wrong in
            [&cluster[..], &cluster[..9], &[&cluster[..], &[0xA3, 0x85, 1]].concat(), &[0xA3, 0x85, 0]]
        {
            assert!(!leads_to_its_end(wrong), "{wrong:?}");
        }
        assert!(!leads_to_its_end(&[&cluster[..], &grouped].concat()));
    }
}
