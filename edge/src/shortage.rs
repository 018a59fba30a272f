//! Memory of the whole process: while it is short, no more connections are taken than there are. Who is there is served, and who
//! leaves makes room for another. A viewer who is refused goes elsewhere, which those whom the kernel ends cannot.

use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};

use crate::metrics::MemoryMetrics;

/// How often memory is looked at: less than it takes to fill what [`most_bytes`] leaves to others.
const LOOK: Duration = Duration::from_millis(500);

/// Takes what is left of the places for connections while memory is short.
#[derive(Debug)]
pub(crate) struct Shortage {
    /// A permit is a connection.
    places: Arc<Semaphore>,
    limit_bytes: u64,
    /// How many places were taken, while memory is short.
    withheld: Option<usize>,
    metrics: MemoryMetrics,
}

impl Shortage {
    pub(crate) fn new(places: Arc<Semaphore>, limit_bytes: u64, metrics: MemoryMetrics) -> Self {
        metrics.set_process_limit(limit_bytes);
        Self { places, limit_bytes, withheld: None, metrics }
    }

    pub(crate) async fn watch(mut self) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            match used_bytes() {
                Ok(used) => self.judge(used),
                Err(error) => return tracing::error!(%error, "cannot see how much memory this process takes"),
            }
        }
    }

    fn judge(&mut self, used: u64) {
        self.metrics.set_process(used);
        // A twentieth less than made it short, so that it is not over and over again.
        let enough = self.limit_bytes - self.limit_bytes / 20;
        match self.withheld {
            None if used > self.limit_bytes => {
                let withheld = self.places.forget_permits(Semaphore::MAX_PERMITS);
                tracing::warn!(
                    used,
                    limit = self.limit_bytes,
                    "memory is short, no more connections are taken"
                );
                self.metrics.set_withheld(withheld);
                self.withheld = Some(withheld);
            }
            Some(withheld) if used <= enough => {
                tracing::info!(used, limit = self.limit_bytes, "there is memory for more connections again");
                self.places.add_permits(withheld);
                self.metrics.set_withheld(0);
                self.withheld = None;
            }
            None | Some(_) => {}
        }
    }
}

/// What this process has in memory and could not be read from files again.
fn used_bytes() -> io::Result<u64> {
    kib_of(&fs::read_to_string("/proc/self/status")?, "RssAnon:")
}

/// What a process may take where nobody says: nine tenths of what its control groups (version 2) or else the machine have; the
/// rest is for the kernel, which has what is in sockets.
pub(crate) fn most_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").and_then(|text| kib_of(&text, "MemTotal:"));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let folders = std::path::Path::new("/sys/fs/cgroup").join(own);
    // `max` is no number, and the group above all has no such file.
    let limits = folders.ancestors().filter_map(|folder| fs::read_to_string(folder.join("memory.max")).ok());
    let limits = limits.filter_map(|text| text.trim().parse().ok());
    limits.chain(machine.ok()).min().map_or(u64::MAX, |least: u64| least / 10 * 9)
}

/// A number of KiB in a text of the kernel, in bytes.
fn kib_of(text: &str, name: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no {name}")))
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn while_memory_is_short_places_are_only_handed_on() {
        let places = Arc::new(Semaphore::new(10));
        let metrics = Metrics::register(&Registry::new()).unwrap().memory;
        let mut shortage = Shortage::new(places.clone(), 100, metrics);
        let (here, _stays) =
            (places.clone().try_acquire_owned(), places.clone().try_acquire_owned().unwrap());
        shortage.judge(100);
        assert_eq!(places.available_permits(), 8);
        for used in [101, 150, 96] {
            shortage.judge(used);
            assert_eq!(places.available_permits(), 0, "{used}");
        }
        drop(here);
        let another = places.clone().try_acquire_owned().unwrap();
        shortage.judge(120);
        assert!(places.try_acquire().is_err());
        shortage.judge(95);
        assert_eq!(places.available_permits(), 8);
        drop(another);
        shortage.judge(101);
        assert_eq!(places.available_permits(), 0);
    }

    #[test]
    fn what_the_kernel_says_is_understood() {
        let used = used_bytes().unwrap();
        assert!(used > 100 << 10 && used < most_bytes(), "{used} of {}", most_bytes());
        assert_eq!(kib_of("MemFree:  2 kB\nMemTotal:       3 kB\n", "MemTotal:").unwrap(), 3072);
        assert!(kib_of("MemFree: 2 kB\n", "MemTotal:").is_err());
        assert!(kib_of("MemTotal: some kB\n", "MemTotal:").is_err());
    }
}
