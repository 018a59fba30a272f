//! Who is served next: inside a class tenants share the fleet by weight in estimated CPU time, and no more is put in
//! the queues than the fleet will soon begin.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng: SIGCOMM 1996): every tenant has a tag, the CPU time it was given over its
//! weight; the smallest tag is served next, and who comes new begins at the tag being served. Unlike rounds with a
//! quantum, a newcomer waits for nobody's turn. Pure: the same calls in the same order give the same picks.

mod demand;
pub mod feeder;
pub mod lease;
mod pace;
mod races;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod slow_and_dead;
mod stragglers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;

use reelmill_media::ids::{AssetId, TenantId};
use reelmill_media::task::{Class, TaskNumber};
use reelmill_platform::kv::Revision;

pub use demand::{Demand, INDEX_COST_MS};
pub use stragglers::{Fault, Straggler, Stragglers};

/// Units of a tag per millisecond of one core at weight 1: keeps shares exact to a thousandth for weights up to 1000.
const TAG_UNITS: u64 = 1000;

/// One value per class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerClass<T> {
    /// Of [`Class::Publish`].
    pub publish: T,
    /// Of [`Class::Ladder`].
    pub ladder: T,
}

impl<T> PerClass<T> {
    /// The value of a class.
    pub const fn of(&self, class: Class) -> &T {
        match class {
            Class::Publish => &self.publish,
            Class::Ladder => &self.ladder,
        }
    }

    /// The value of a class, to be changed.
    pub const fn of_mut(&mut self, class: Class) -> &mut T {
        match class {
            Class::Publish => &mut self.publish,
            Class::Ladder => &mut self.ladder,
        }
    }
}

/// The right of one task to be put in its queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// Of which asset.
    pub asset: AssetId,
    /// Which task.
    pub number: TaskNumber,
    /// Of which class.
    pub class: Class,
}

/// All unfinished work and who was given how much.
#[derive(Debug, Default)]
pub struct Schedule {
    jobs: BTreeMap<AssetId, Job>,
    lines: PerClass<Line>,
    /// Tasks in the queues or in work.
    out: PerClass<usize>,
    backlog_ms: PerClass<u64>,
    weights: HashMap<TenantId, NonZeroU32>,
    /// Counts picks.
    turn: u64,
}

#[derive(Debug)]
struct Job {
    revision: Revision,
    demand: Demand,
    /// Tasks that were picked and that the record does not show yet.
    picked: u32,
    /// Somebody is writing them into the record.
    asked: bool,
    /// When it was last picked.
    turn: u64,
}

/// The tenants that wait in one class.
#[derive(Debug, Default)]
struct Line {
    /// Tags of all tenants, also of those that have nothing to do now.
    tags: HashMap<TenantId, u64>,
    /// Jobs with a task that may be picked: those that were not picked for longest come first.
    waiting: HashMap<TenantId, BTreeSet<(u64, AssetId)>>,
    order: BTreeSet<(u64, TenantId)>,
    /// The tag that is being served.
    now: u64,
}

impl Schedule {
    /// Without any work. Tenants that are not named weigh 1.
    pub fn new(weights: HashMap<TenantId, NonZeroU32>) -> Self {
        Self { weights, ..Self::default() }
    }

    /// What an asset wants according to a revision of its record; nothing, when it is over. Older news change nothing.
    pub fn see(&mut self, id: AssetId, revision: Revision, demand: Option<Demand>) {
        let (mut picked, mut asked, mut turn) = (0, false, 0);
        if let Some(known) = self.jobs.get(&id) {
            if revision < known.revision {
                return;
            }
            // What was picked since is on its way as long as somebody writes it.
            let seen = demand.as_ref().map_or(0, |demand| demand.next.0.saturating_sub(known.demand.next.0));
            picked = if known.asked { known.picked.saturating_sub(seen) } else { 0 };
            (asked, turn) = (known.asked, known.turn);
        }
        self.remove(id);
        if let Some(demand) = demand {
            self.insert(id, Job { revision, demand, picked, asked, turn });
        }
    }

    /// Records come from another bucket now, whose revisions begin at 1: whatever is seen next is newer.
    pub fn forget_revisions(&mut self) {
        for job in self.jobs.values_mut() {
            job.revision = Revision(0);
        }
    }

    /// The picks of an asset are in its record, or were given up: the record says all there is.
    pub fn settle(&mut self, id: AssetId) {
        let Some(mut job) = self.remove(id) else { return };
        job.asked = false;
        job.picked = 0;
        self.insert(id, job);
    }

    /// Picks what is to be put in the queues so that `window` tasks wait or run, and gives the last number for each
    /// asset, of at most `assets`. They count as on their way until [`Schedule::settle`].
    pub fn round(&mut self, window: usize, assets: usize) -> Vec<(AssetId, TaskNumber)> {
        let mut upto = BTreeMap::new();
        while upto.len() < assets {
            let Some(Pick { asset, number, .. }) = self.pick(window) else { break };
            upto.insert(asset, number);
        }
        for id in upto.keys() {
            if let Some(mut job) = self.remove(*id) {
                job.asked = true;
                self.insert(*id, job);
            }
        }
        upto.into_iter().collect()
    }

    /// The next task to be put in its queue, unless so many of its class or above are there already.
    pub fn pick(&mut self, window: usize) -> Option<Pick> {
        // Urgent tasks do not wait for ordinary ones to make room.
        if self.out.publish < window
            && let Some(pick) = self.pick_of(Class::Publish)
        {
            return Some(pick);
        }
        if self.out.publish + self.out.ladder < window { self.pick_of(Class::Ladder) } else { None }
    }

    fn pick_of(&mut self, class: Class) -> Option<Pick> {
        let line = self.lines.of_mut(class);
        let (tag, tenant) = line.order.first()?.clone();
        let (_, id) = *line.waiting.get(&tenant)?.first()?;
        let mut job = self.remove(id)?;
        let number = TaskNumber(job.demand.next.0 + job.picked);
        let weight = u64::from(self.weights.get(&tenant).map_or(1, |weight| weight.get()));
        let cost = job.demand.cost_ms(class).max(1) * TAG_UNITS / weight;
        self.lines.of_mut(class).charge(tenant, tag, cost);
        self.turn += 1;
        job.turn = self.turn;
        job.picked += 1;
        self.insert(id, job);
        Some(Pick { asset: id, number, class })
    }

    /// Tasks in the queues or in work.
    pub const fn out(&self) -> PerClass<usize> {
        self.out
    }

    /// Work that is left, in milliseconds of one core.
    pub const fn backlog_ms(&self) -> PerClass<u64> {
        self.backlog_ms
    }

    /// Tenants with a task that could begin if there were room.
    pub fn waiting(&self) -> PerClass<usize> {
        PerClass { publish: self.lines.publish.order.len(), ladder: self.lines.ladder.order.len() }
    }

    fn insert(&mut self, id: AssetId, job: Job) {
        self.count(&job, |sum, part| *sum += part, |sum, part| *sum += part);
        if let Some(class) = job.class() {
            self.lines.of_mut(class).join(&job.demand.tenant, (job.turn, id));
        }
        self.jobs.insert(id, job);
    }

    fn remove(&mut self, id: AssetId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        self.count(&job, |sum, part| *sum -= part, |sum, part| *sum -= part);
        if let Some(class) = job.class() {
            self.lines.of_mut(class).leave(&job.demand.tenant, (job.turn, id));
        }
        Some(job)
    }

    fn count(&mut self, job: &Job, tasks: impl Fn(&mut usize, usize), cost: impl Fn(&mut u64, u64)) {
        for class in Class::ALL {
            let picked = job.demand.of_class(job.picked, class);
            tasks(self.out.of_mut(class), *job.demand.out.of(class) + picked as usize);
            cost(self.backlog_ms.of_mut(class), *job.demand.backlog_ms.of(class));
        }
    }
}

impl Job {
    /// The class in which it waits.
    fn class(&self) -> Option<Class> {
        if self.asked { None } else { self.demand.class_after(self.picked) }
    }
}

impl Line {
    fn join(&mut self, tenant: &TenantId, job: (u64, AssetId)) {
        let jobs = self.waiting.entry(tenant.clone()).or_default();
        if jobs.is_empty() {
            // Time without work is not saved up.
            let tag = self.tags.entry(tenant.clone()).or_default();
            *tag = self.now.max(*tag);
            self.order.insert((*tag, tenant.clone()));
        }
        jobs.insert(job);
    }

    fn leave(&mut self, tenant: &TenantId, job: (u64, AssetId)) {
        let Some(jobs) = self.waiting.get_mut(tenant) else { return };
        jobs.remove(&job);
        if jobs.is_empty() {
            self.waiting.remove(tenant);
            let tag = self.tags.get(tenant).copied().unwrap_or_default();
            self.order.remove(&(tag, tenant.clone()));
        }
    }

    fn charge(&mut self, tenant: TenantId, tag: u64, cost: u64) {
        self.now = self.now.max(tag);
        let after = tag.saturating_add(cost);
        if self.order.remove(&(tag, tenant.clone())) {
            self.order.insert((after, tenant.clone()));
        }
        self.tags.insert(tenant, after);
    }
}
