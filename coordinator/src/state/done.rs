//! Which of a job's tasks are done: one bit each.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A set of positions among a plan's tasks that only grows. In JSON a base64 text, so that 8192 tasks take 1.4 kB.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DoneSet {
    bits: Vec<u8>,
}

impl DoneSet {
    /// Whether `position` is in it.
    pub fn contains(&self, position: u32) -> bool {
        self.bits.get(position as usize / 8).is_some_and(|byte| byte & (1 << (position % 8)) != 0)
    }

    /// Adds `position`; says whether it was new.
    pub fn insert(&mut self, position: u32) -> bool {
        let (index, bit) = (position as usize / 8, 1 << (position % 8));
        if self.bits.len() <= index {
            self.bits.resize(index + 1, 0);
        }
        let Some(byte) = self.bits.get_mut(index) else { return false };
        let new = *byte & bit == 0;
        *byte |= bit;
        new
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.bits.iter().map(|byte| byte.count_ones()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in order.
    pub fn positions(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.bits.len() as u32 * 8).filter(|position| self.contains(*position))
    }

    /// The set 0..`count`.
    pub fn all(count: u32) -> Self {
        let mut set = Self::default();
        for position in 0..count {
            set.insert(position);
        }
        set
    }
}

impl Serialize for DoneSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(&self.bits))
    }
}

impl<'de> Deserialize<'de> for DoneSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bits = STANDARD_NO_PAD.decode(text).map_err(serde::de::Error::custom)?;
        Ok(Self { bits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_as_a_set_and_survives_its_text(positions in prop::collection::vec(0u32..8192, 0..200)) {
            let mut model = BTreeSet::new();
            let mut set = DoneSet::default();
            for position in positions {
                prop_assert_eq!(set.insert(position), model.insert(position));
            }
            prop_assert_eq!(set.len() as usize, model.len());
            prop_assert!(set.positions().eq(model.iter().copied()));
            let text = serde_json::to_string(&set).unwrap();
            prop_assert!(text.len() < 1500);
            prop_assert_eq!(serde_json::from_str::<DoneSet>(&text).unwrap(), set);
        }
    }
}
