//! Whose are datagrams that are addressed to IDs which clients made up for their first packets.

use std::collections::{HashMap, VecDeque};

use crate::limits::BEGUN_LATELY;

/// Datagrams of one client's first flight that others may come between.
const SAME_FLIGHT: usize = 16;

/// With which of those IDs connections were begun lately, and by whom.
#[derive(Debug, Default)]
pub(super) struct FirstPackets {
    /// By this process.
    own: VecDeque<Vec<u8>>,
    /// By older ones: their generations.
    older: HashMap<Vec<u8>, u8>,
}

impl FirstPackets {
    /// The generation of the older process that has begun with the ID; where there is none, this one has.
    pub(super) fn for_older(&mut self, id: &[u8]) -> Option<u8> {
        let older = self.older.get(id).copied();
        if older.is_none() && !self.own.iter().rev().take(SAME_FLIGHT).any(|known| known == id) {
            if self.own.len() == BEGUN_LATELY {
                self.own.pop_front();
            }
            self.own.push_back(id.to_vec());
        }
        older
    }

    /// An older process says with which it has begun.
    pub(super) fn hear(&mut self, generation: u8, begun: &[u8]) {
        let begun: Vec<Vec<u8>> = serde_json::from_slice(begun).unwrap_or_default();
        self.older.extend(begun.into_iter().map(|id| (id, generation)));
    }

    /// What this process says to a newer one.
    pub(super) fn say(&self) -> Vec<u8> {
        // Bytes always serialise. Where it does not get there, clients begin again.
        serde_json::to_vec(&self.own).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_process_knows_what_an_older_one_has_begun_with() {
        let (mut older, mut newer) = (FirstPackets::default(), FirstPackets::default());
        // The longest there are, with the bytes that take most room.
        let id = |number: usize| [&[255; 12], &number.to_be_bytes()[..]].concat();
        for number in 0..BEGUN_LATELY + 3 {
            assert_eq!(older.for_older(&id(number)), None);
            assert_eq!(older.for_older(&id(number)), None, "of the same flight");
        }
        let begun = older.say();
        assert!(begun.len() <= crate::limits::RELAYED_BYTES);
        newer.hear(7, &begun);
        assert_eq!(newer.for_older(&id(2)), None, "too long ago");
        assert_eq!(newer.for_older(&id(3)), Some(7));
        assert_eq!(newer.for_older(&id(BEGUN_LATELY + 2)), Some(7));
        assert_eq!(newer.say(), serde_json::to_vec(&[id(2)]).unwrap());
        newer.hear(8, b"no list");
    }
}
