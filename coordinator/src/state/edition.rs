//! Another edition of an asset that is ready: made by another profile of the same bytes while viewers keep the one that
//! stands. When all of it is there, it takes that one's place; when it cannot be made, that one stays, and the record says
//! why.

use reelmill_media::presentation::Edition;
use reelmill_media::profile::Profile;
use reelmill_media::source::SourceRef;
use reelmill_media::task::{Failure, Recipe};
use serde::{Deserialize, Serialize};

use super::Occasion;
use super::asset::Asset;
use super::machine::Step;
use super::rendition::Rendition;
use super::stage::Stage;
use super::words::{Effect, PlanSummary};

/// Epochs between two jobs of one asset: more than one task ever has.
const EPOCHS_PER_JOB: u32 = 1 << 16;

/// What viewers have while another edition is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Which edition.
    pub edition: Edition,
    /// What it was made by.
    pub profile: Profile,
    /// How the source was cut.
    pub recipe: Recipe,
    /// What was made.
    pub renditions: Vec<Rendition>,
}

/// An edition that could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abandoned {
    /// Which.
    pub edition: Edition,
    /// What it was to be made by.
    pub profile: Profile,
    /// Why it was not.
    pub failure: Failure,
}

impl Asset {
    /// The edition that viewers have, if they have any.
    pub fn shown_edition(&self) -> Edition {
        self.standing.as_ref().map_or(self.edition, |standing| standing.edition)
    }

    /// What is made so far is for nobody to see: viewers have another edition, and this one is not whole.
    pub fn is_behind_another(&self) -> bool {
        let whole = match &self.stage {
            Stage::Processing { job, .. } => job.done.len() == job.tasks,
            Stage::Uploading | Stage::Queued { .. } | Stage::Indexing { .. } => false,
            Stage::Ready { .. } | Stage::Failed { .. } | Stage::Deleted { .. } => true,
        };
        self.standing.is_some() && !whole
    }

    /// Lets go of what any job has made or will make of it so far.
    pub fn fence_off(&mut self) {
        self.fence = self.fence.saturating_add(EPOCHS_PER_JOB);
    }

    /// Gives the edition in work a number that none before it had, also where nobody remembers those.
    pub fn renumber(&mut self) {
        self.edition = Edition(self.fence / EPOCHS_PER_JOB);
    }

    /// Parts of it that nobody can make may be filled in: not where viewers have an edition without such a part.
    pub(super) fn may_conceal(&self) -> bool {
        let is_whole = |standing: &Standing| standing.renditions.iter().all(|r| r.concealed == 0);
        !self.standing.as_ref().is_some_and(is_whole)
    }
}

impl Step {
    /// Begins another edition, unless one is being made, or there is nothing to begin with.
    pub(super) fn republish(&mut self, profile: Profile, plan: PlanSummary) {
        let Stage::Ready { source, recipe, .. } = self.asset.stage else { return };
        if self.asset.profile == profile || plan.recipe.index != recipe.index {
            return;
        }
        let asset = &mut self.asset;
        asset.standing = Some(Standing {
            edition: asset.edition,
            profile: std::mem::replace(&mut asset.profile, profile),
            recipe,
            renditions: std::mem::take(&mut asset.renditions),
        });
        asset.abandoned = None;
        asset.fence_off();
        asset.renumber();
        self.begin_job(source, plan);
    }

    /// What viewers have stays.
    pub(super) fn abandon(&mut self, source: SourceRef, standing: Standing, failure: Failure) {
        let Standing { edition, profile, recipe, renditions } = standing;
        let asset = &mut self.asset;
        asset.abandoned = Some(Abandoned {
            edition: std::mem::replace(&mut asset.edition, edition),
            profile: std::mem::replace(&mut asset.profile, profile),
            failure,
        });
        asset.renditions = renditions;
        asset.fence_off();
        asset.stage = Stage::Ready { source, recipe, closed: false };
        self.owe(Occasion::RepublishFailed);
        self.effects.push(Effect::Retract);
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use reelmill_media::ids::BlobHash;
    use reelmill_media::task::{FailureCode, TaskNumber};

    use super::super::simulation::World;
    use super::super::{Input, StageName};
    use super::*;

    /// An asset that is ready, and the plan by which it is made again.
    fn ready(tasks: u32) -> (World, Input) {
        let mut world = World::new(tasks);
        world.hand_out(1, usize::MAX);
        let indexed = world.success(TaskNumber::INDEX, 1);
        let Input::Indexed { plan, .. } = indexed.clone() else { panic!() };
        world.apply(indexed, usize::MAX);
        world.hand_out(tasks, usize::MAX);
        for number in 1..=tasks {
            world.apply(world.success(TaskNumber(number), 1), usize::MAX);
        }
        assert_eq!(world.asset.stage.name(), StageName::Ready);
        world.queue.clear();
        let profile = Profile { segment_seconds: 2, ..Profile::default() };
        (world, Input::Republish { profile, plan })
    }

    fn occasions(world: &World) -> Vec<Occasion> {
        world.asset.notices.iter().map(|notice| notice.occasion).collect()
    }

    #[test]
    fn an_edition_takes_the_place_of_the_one_before_when_it_is_whole() {
        let (mut world, again) = ready(2);
        world.apply(again.clone(), usize::MAX);
        let begun = world.asset.clone();
        world.apply(again, usize::MAX);
        assert_eq!(world.asset, begun, "nothing is begun twice");
        assert_eq!((begun.edition, begun.shown_edition()), (Edition(1), Edition(0)));
        assert!(begun.is_playable() && begun.is_behind_another());
        // What is late from the first job counts no more.
        world.apply(world.success(TaskNumber(1), 1), usize::MAX);
        assert_eq!(world.asset, begun);
        world.hand_out(2, usize::MAX);
        let epoch = world.asset.epoch(TaskNumber(1)).unwrap();
        world.apply(world.success(TaskNumber(1), epoch), usize::MAX);
        assert!(world.asset.is_behind_another());
        world.apply(world.success(TaskNumber(2), epoch), usize::MAX);
        assert_eq!((world.asset.stage.name(), &world.asset.standing), (StageName::Ready, &None));
        assert_eq!(occasions(&world), [Occasion::Playable, Occasion::Ready, Occasion::Republished]);
    }

    #[test]
    fn an_edition_that_cannot_be_made_leaves_all_as_it_was() {
        let (mut world, again) = ready(2);
        let before = world.asset.clone();
        world.apply(again.clone(), usize::MAX);
        world.hand_out(2, usize::MAX);
        let epoch = world.asset.epoch(TaskNumber(2)).unwrap();
        world.apply(world.success(TaskNumber(1), epoch), usize::MAX);
        for epoch in epoch..epoch + 5 {
            world.fails_with(2, epoch, u64::from(epoch), FailureCode::Internal);
            world.now += SignedDuration::from_secs(100);
            world.apply(Input::Tick, usize::MAX);
        }
        let after = &world.asset;
        assert_eq!((&after.profile, &after.renditions), (&before.profile, &before.renditions));
        assert_eq!((after.edition, after.stage.name()), (Edition(0), StageName::Ready));
        assert_eq!(after.abandoned.as_ref().map(|a| a.failure.code), Some(FailureCode::Internal));
        assert_eq!(occasions(&world).last(), Some(&Occasion::RepublishFailed));
        assert!(world.queue.is_empty(), "its other tasks were taken back");
        let abandoned = after.abandoned.as_ref().unwrap().edition;
        world.apply(again, usize::MAX);
        assert!(world.asset.edition > abandoned, "no number is given out twice");
    }

    #[test]
    fn only_what_is_ready_is_made_again_and_only_from_its_own_index() {
        let (mut world, again) = ready(1);
        let Input::Republish { profile, mut plan } = again.clone() else { panic!() };
        let mut young = World::new(1);
        let before = young.asset.clone();
        young.apply(again, usize::MAX);
        assert_eq!(young.asset, before);
        plan.recipe.index = BlobHash::of(b"another source");
        let before = world.asset.clone();
        world.apply(Input::Republish { profile, plan }, usize::MAX);
        assert_eq!(world.asset, before);
    }
}
