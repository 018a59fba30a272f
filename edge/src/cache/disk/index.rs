//! What lies on disk and what has to go next. Pure: no files here.
//!
//! S3-FIFO (Yang et al., SOSP 2023), weighed in bytes. What is new is on probation in a short queue, a tenth of the room,
//! and leaves by its end unless somebody asked for it meanwhile: a scan of things wanted once passes through that tenth
//! and leaves the rest alone. Names that left by that end are remembered, and skip the probation when they come back.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::route::PublicBlob;

/// Probation gets one part in so many.
const PROBATION_PART: u64 = 10;

/// A name is remembered at least among so many that left.
const REMEMBERED: usize = 4096;

/// Asking more often than this counts no further.
const MOST_HITS: u8 = 3;

/// Names with their sizes, in two queues.
#[derive(Debug)]
pub(super) struct Index {
    capacity: u64,
    entries: HashMap<PublicBlob, Entry>,
    probation: Line,
    settled: Line,
    left: VecDeque<PublicBlob>,
    remembered: HashSet<PublicBlob>,
    /// Tells an entry from an earlier one of the same name whose place in a queue is still there.
    next_ticket: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    bytes: u64,
    hits: u8,
    ticket: u64,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Probation,
    Settled,
}

#[derive(Debug, Default)]
struct Line {
    queue: VecDeque<(PublicBlob, u64)>,
    bytes: u64,
}

impl Index {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            entries: HashMap::new(),
            probation: Line::default(),
            settled: Line::default(),
            left: VecDeque::new(),
            remembered: HashSet::new(),
            next_ticket: 0,
        }
    }

    /// All of it, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.probation.bytes + self.settled.bytes
    }

    /// Notes that somebody asked; says whether the name is known.
    pub(super) fn touch(&mut self, name: &PublicBlob) -> bool {
        let entry = self.entries.get_mut(name);
        entry.map(|entry| entry.hits = (entry.hits + 1).min(MOST_HITS)).is_some()
    }

    /// Whether this name left for want of room not long ago.
    pub(super) fn has_left(&self, name: &PublicBlob) -> bool {
        self.remembered.contains(name)
    }

    /// Adds what was just written, and says what has to go for it; that may be the new one itself.
    pub(super) fn insert(&mut self, name: PublicBlob, bytes: u64) -> Vec<PublicBlob> {
        let place = if self.remembered.remove(&name) { Place::Settled } else { Place::Probation };
        self.add(name, bytes, place)
    }

    /// Adds what an earlier process left here.
    pub(super) fn adopt(&mut self, name: PublicBlob, bytes: u64) -> Vec<PublicBlob> {
        if self.entries.contains_key(&name) { Vec::new() } else { self.add(name, bytes, Place::Settled) }
    }

    /// Forgets a name.
    pub(super) fn remove(&mut self, name: &PublicBlob) {
        if let Some(entry) = self.entries.remove(name) {
            self.line(entry.place).bytes -= entry.bytes;
        }
    }

    fn add(&mut self, name: PublicBlob, bytes: u64, place: Place) -> Vec<PublicBlob> {
        self.remove(&name);
        self.put(name, Entry { bytes, hits: 0, ticket: 0, place });
        let mut gone = Vec::new();
        while self.bytes() > self.capacity {
            let probation_is_long =
                self.probation.bytes > self.capacity / PROBATION_PART || self.settled.bytes == 0;
            let evicted = if probation_is_long { self.end_probation() } else { self.end_settled() };
            gone.extend(evicted);
        }
        gone
    }

    /// The oldest on probation settles or leaves.
    fn end_probation(&mut self) -> Option<PublicBlob> {
        let (name, entry) = self.pop(Place::Probation)?;
        if entry.hits > 0 {
            self.put(name, Entry { hits: 0, place: Place::Settled, ..entry });
            return None;
        }
        self.remembered.insert(name);
        self.left.push_back(name);
        while self.left.len() > self.entries.len().max(REMEMBERED) {
            if let Some(oldest) = self.left.pop_front() {
                self.remembered.remove(&oldest);
            }
        }
        Some(name)
    }

    /// The oldest settled one leaves, or goes round again when it was asked for.
    fn end_settled(&mut self) -> Option<PublicBlob> {
        let (name, entry) = self.pop(Place::Settled)?;
        if entry.hits == 0 {
            return Some(name);
        }
        self.put(name, Entry { hits: entry.hits - 1, ..entry });
        None
    }

    fn put(&mut self, name: PublicBlob, entry: Entry) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.entries.insert(name, Entry { ticket, ..entry });
        let line = self.line(entry.place);
        line.bytes += entry.bytes;
        line.queue.push_back((name, ticket));
    }

    fn pop(&mut self, place: Place) -> Option<(PublicBlob, Entry)> {
        while let Some((name, ticket)) = self.line(place).queue.pop_front() {
            if let Some(entry) = self.entries.get(&name).copied()
                && entry.ticket == ticket
            {
                self.remove(&name);
                return Some((name, entry));
            }
        }
        None
    }

    fn line(&mut self, place: Place) -> &mut Line {
        match place {
            Place::Probation => &mut self.probation,
            Place::Settled => &mut self.settled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reelmill_media::ids::BlobHash;
    use reelmill_media::keys::BlobKind;

    fn name(number: u32) -> PublicBlob {
        PublicBlob::new(BlobHash::of(&number.to_le_bytes()), BlobKind::Segment).unwrap()
    }

    #[test]
    fn a_scan_leaves_what_is_asked_for_again() {
        let mut index = Index::new(1000);
        for hot in 0..50 {
            index.insert(name(hot), 10);
            index.touch(&name(hot));
        }
        for cold in 1000..20_000 {
            index.insert(name(cold), 10);
            if cold % 10 == 0 {
                index.touch(&name(cold / 10 % 50));
            }
        }
        let kept = (0..50).filter(|hot| index.touch(&name(*hot))).count();
        assert!(kept >= 45, "{kept} of 50");
    }

    #[test]
    fn who_comes_back_soon_settles_at_once() {
        let mut index = Index::new(100);
        for number in 0..12 {
            index.insert(name(number), 10);
        }
        assert!(index.has_left(&name(0)) && !index.touch(&name(0)));
        index.insert(name(0), 10);
        for number in 100..120 {
            index.insert(name(number), 10);
        }
        assert!(index.touch(&name(0)));
    }

    /// Least recently used, weighed in bytes: what most caches do.
    struct Lru {
        capacity: u64,
        bytes: u64,
        at: u64,
        held: HashMap<PublicBlob, (u64, u64)>,
        order: std::collections::BTreeMap<u64, PublicBlob>,
    }

    impl Lru {
        fn ask(&mut self, name: PublicBlob, bytes: u64) -> bool {
            self.at += 1;
            let before = self.held.insert(name, (bytes, self.at));
            self.order.insert(self.at, name);
            match before {
                Some((_, at)) => drop(self.order.remove(&at)),
                None => self.bytes += bytes,
            }
            while self.bytes > self.capacity {
                let (_, oldest) = self.order.pop_first().unwrap();
                self.bytes -= self.held.remove(&oldest).unwrap().0;
            }
            before.is_some()
        }
    }

    /// A day of a video edge: titles of thirty segments, asked for by Zipf's law and watched for a while, and between them
    /// somebody who reads the whole archive once. The same each time.
    fn day(requests: usize) -> Vec<(PublicBlob, u64)> {
        const TITLES: usize = 4000;
        let mut state = 1u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / (1u64 << 31) as f64
        };
        let weights: Vec<f64> = (1..=TITLES).map(|rank| (rank as f64).powf(-0.9)).collect();
        let total: f64 = weights.iter().sum();
        let sums: Vec<f64> = weights
            .iter()
            .scan(0.0, |sum, weight| {
                *sum += weight / total;
                Some(*sum)
            })
            .collect();
        let bytes = |segment: u32| 200_000 + u64::from(segment % 7) * 100_000;
        let (mut trace, mut scanned) = (Vec::new(), 1 << 24);
        while trace.len() < requests {
            let title = sums.partition_point(|sum| *sum < random()).min(TITLES - 1) as u32;
            let watched = 1 + (random() * random() * 30.0) as u32;
            trace.extend((0..watched).map(|segment| title * 30 + segment).map(|s| (name(s), bytes(s))));
            for _ in 0..watched {
                scanned += 1;
                trace.push((name(scanned), bytes(scanned)));
            }
        }
        trace
    }

    /// `cargo nextest run -p reelmill-edge byte_hit_ratio --no-capture` shows the figures.
    #[test]
    fn its_byte_hit_ratio_is_eight_points_above_lru_on_a_video_trace_with_scans() {
        const CAPACITY: u64 = 4 << 30;
        let mut index = Index::new(CAPACITY);
        let (held, order) = (HashMap::new(), std::collections::BTreeMap::new());
        let mut lru = Lru { capacity: CAPACITY, bytes: 0, at: 0, held, order };
        let (mut asked, mut ours, mut theirs) = (0, 0, 0);
        for (name, bytes) in day(400_000) {
            asked += bytes;
            if index.touch(&name) {
                ours += bytes;
            } else {
                index.insert(name, bytes);
            }
            if lru.ask(name, bytes) {
                theirs += bytes;
            }
        }
        let points = |bytes: u64| bytes as f64 / asked as f64 * 100.0;
        let (ours, theirs) = (points(ours), points(theirs));
        println!("{ours:.1} % of bytes are hits, with LRU {theirs:.1} %");
        assert!(ours - theirs >= 8.0, "{ours:.1} and {theirs:.1}");
    }

    proptest! {
        #[test]
        fn it_never_holds_more_than_it_may(steps in proptest::collection::vec((0u32..40, 0u64..300, 0u8..4), 0..400)) {
            let mut index = Index::new(1000);
            let mut model: HashMap<PublicBlob, u64> = HashMap::new();
            for (number, bytes, step) in steps {
                let name = name(number);
                match step {
                    0 => prop_assert_eq!(index.touch(&name), model.contains_key(&name)),
                    1 => {
                        index.remove(&name);
                        model.remove(&name);
                    }
                    _ => {
                        let gone = if step == 2 { index.insert(name, bytes) } else { index.adopt(name, bytes) };
                        if step == 2 || !model.contains_key(&name) {
                            model.insert(name, bytes);
                        }
                        for gone in gone {
                            prop_assert!(model.remove(&gone).is_some());
                        }
                    }
                }
                prop_assert_eq!(index.bytes(), model.values().sum::<u64>());
                prop_assert!(index.bytes() <= 1000);
            }
        }
    }
}
