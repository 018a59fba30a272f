//! What an asset's owner is still to be told. Notices stand in the record itself: they are owed by the very write that
//! makes them true, and paid in order.

use jiff::{SignedDuration, Timestamp};
use reelmill_media::presentation::Edition;
use serde::{Deserialize, Serialize};

use super::asset::Asset;

/// Whoever claims a notice has told it by then, or died: longer than a receiver may take.
const CLAIM: SignedDuration = SignedDuration::from_secs(30);
/// Pause after the first try in vain; each further one is twice as long.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(2);
/// No pause is longer.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(1800);
/// A receiver that cannot be told for so long is not told any more.
const GIVEN_UP_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// So many notices may wait for a receiver that is down; of an asset that is published again and again, the oldest go.
const MAX_NOTICES: usize = 32;

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// Something of it plays.
    Playable,
    /// Everything is made.
    Ready,
    /// It cannot be made.
    Failed,
    /// Another edition has taken the place of the one before.
    Republished,
    /// Another edition cannot be made.
    RepublishFailed,
}

impl Occasion {
    /// As receivers know it.
    pub const fn name(self) -> &'static str {
        match self {
            Occasion::Playable => "asset.playable",
            Occasion::Ready => "asset.ready",
            Occasion::Failed => "asset.failed",
            Occasion::Republished => "asset.republished",
            Occasion::RepublishFailed => "asset.republish_failed",
        }
    }
}

/// A notice that is owed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What to tell.
    pub occasion: Occasion,
    /// Of which edition.
    #[serde(default, skip_serializing_if = "Edition::is_first")]
    pub edition: Edition,
    /// Since when it is true.
    pub at: Timestamp,
    /// Tries so far.
    pub tries: u32,
    /// It is not tried again before this.
    pub not_before: Timestamp,
}

impl Asset {
    /// From now on this is owed.
    pub(super) fn owe(&mut self, occasion: Occasion, edition: Edition, now: Timestamp) {
        if self.notices.len() >= MAX_NOTICES {
            self.notices.remove(0);
        }
        self.notices.push(Notice { occasion, edition, at: now, tries: 0, not_before: now });
    }

    /// The first notice, if it may be told now. The others wait for it.
    pub fn due_notice(&self, now: Timestamp) -> Option<&Notice> {
        self.notices.first().filter(|notice| notice.not_before <= now)
    }

    /// Somebody is about to tell the first notice.
    pub(super) fn claim_notice(&mut self, now: Timestamp) {
        if let Some(notice) = self.notices.first_mut().filter(|notice| notice.not_before <= now) {
            notice.tries = notice.tries.saturating_add(1);
            notice.not_before = now + CLAIM;
        }
    }

    /// A try ended.
    pub(super) fn notice_tried(&mut self, tried: &Notice, told: bool, now: Timestamp) {
        let Notice { occasion, edition, tries, .. } = *tried;
        let is_it = |notice: &&mut Notice| (notice.occasion, notice.edition) == (occasion, edition);
        let Some(notice) = self.notices.first_mut().filter(is_it) else { return };
        let pause =
            FIRST_PAUSE.saturating_mul(2i32.saturating_pow(tries.saturating_sub(1))).min(LONGEST_PAUSE);
        if told || now.duration_since(notice.at) + pause > GIVEN_UP_AFTER {
            self.notices.remove(0);
        } else if notice.tries == tries {
            notice.not_before = now + pause;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Arrival;
    use reelmill_media::ids::AssetId;

    #[test]
    fn a_receiver_that_was_down_for_an_hour_gets_everything_in_order() {
        let begun = Timestamp::from_second(1_700_000_000).unwrap();
        let up = begun + SignedDuration::from_hours(1);
        let id = AssetId::from_parts(1, 1);
        let mut asset = Asset::new(id, "demo".parse().unwrap(), None, None, Arrival::Whole, begun);
        let edition = Edition::default();
        asset.owe(Occasion::Playable, edition, begun);
        asset.owe(Occasion::Ready, edition, begun + SignedDuration::from_secs(90));
        let (mut now, mut told) = (begun, Vec::new());
        while let Some(notice) = asset.notices.first().cloned() {
            now = now.max(notice.not_before);
            asset.claim_notice(now);
            let (claimed, takes) = (asset.notices[0].clone(), now >= up);
            if takes {
                told.push(notice.occasion);
            }
            // As long as a receiver may take to say no.
            now += if takes { SignedDuration::ZERO } else { SignedDuration::from_secs(15) };
            asset.notice_tried(&claimed, takes, now);
        }
        assert_eq!(told, [Occasion::Playable, Occasion::Ready]);
        assert!(now.duration_since(up) <= LONGEST_PAUSE, "{now} is long after {up}");
    }
}
