//! Which edge of a PoP owns what: rendezvous hashing (Thaler and Ravishankar, 1998). Pure.
//!
//! Every edge ranks all members for a name alike, and the first one owns it. When one goes, only what it owned moves, to
//! the next in rank of each name. The load is bounded by the owner itself: one that has its hands full says so, and the
//! next in rank takes its place, for everybody.

use reelmill_media::ids::BlobHash;

/// The members in the order in which they own `key`.
pub(super) fn ranked<M>(key: BlobHash, mut members: Vec<M>, name: impl Fn(&M) -> &str) -> Vec<M> {
    // The highest score first; by name where scores are equal, so that all agree even then.
    members.sort_by_cached_key(|member| {
        let name = name(member);
        (std::cmp::Reverse(score(key, name)), name.to_owned())
    });
    members
}

fn score(key: BlobHash, name: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.digest()).update(name.as_bytes());
    let digest = hasher.finalize();
    digest.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const KEYS: u32 = 3000;

    fn key(number: u32) -> BlobHash {
        BlobHash::of(&number.to_le_bytes())
    }

    fn ranking(key: BlobHash, names: &[String]) -> Vec<&str> {
        ranked(key, names.iter().map(String::as_str).collect(), |name| name)
    }

    /// Who takes each key when nobody takes more than `room`: the first in rank that has some left.
    fn placed(names: &[String], room: usize) -> Vec<&str> {
        let mut load: HashMap<&str, usize> = HashMap::new();
        let place = |number| {
            let ranking = ranking(key(number), names);
            let taker = ranking.into_iter().find(|name| load.get(name).copied().unwrap_or(0) < room);
            let taker = taker.unwrap();
            *load.entry(taker).or_default() += 1;
            taker
        };
        (0..KEYS).map(place).collect()
    }

    fn share(of: usize) -> f64 {
        of as f64 / f64::from(KEYS)
    }

    fn pops() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::hash_set("[a-z]{1,8}", 2..12).prop_map(|names| names.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn all_agree_however_they_list_the_members(names in pops(), number: u32) {
            let mut backwards = names.clone();
            backwards.reverse();
            prop_assert_eq!(ranking(key(number), &names), ranking(key(number), &backwards));
        }

        #[test]
        fn losing_one_moves_only_what_it_owned(names in pops(), lost: prop::sample::Index) {
            let lost = lost.get(&names).clone();
            let left: Vec<String> = names.iter().filter(|name| **name != lost).cloned().collect();
            let mut moved = 0;
            for number in 0..KEYS {
                let before = ranking(key(number), &names);
                let after = ranking(key(number), &left);
                let expected: Vec<&str> = before.iter().copied().filter(|name| *name != lost).collect();
                prop_assert_eq!(&after, &expected, "the order of the others stays");
                moved += usize::from(before[0] == lost);
            }
            prop_assert!(share(moved) <= 1.0 / names.len() as f64 + 0.05, "{moved} of {KEYS} moved");
        }

        #[test]
        fn nobody_takes_more_than_its_room_and_losing_one_still_moves_little(names in pops(), lost: prop::sample::Index) {
            let lost = lost.get(&names).clone();
            let left: Vec<String> = names.iter().filter(|name| **name != lost).cloned().collect();
            // A quarter more than an even share of what is to be held when one is gone.
            let room = (KEYS as usize).div_ceil(left.len()) * 5 / 4;
            let (before, after) = (placed(&names, room), placed(&left, room));
            for name in &left {
                prop_assert!(after.iter().filter(|taker| *taker == name).count() <= room);
            }
            let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
            prop_assert!(share(moved) <= 1.0 / names.len() as f64 + 0.05, "{moved} of {KEYS} moved");
        }
    }
}
