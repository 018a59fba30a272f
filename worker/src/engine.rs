//! Which engine this is, and the name of what it makes: the same recipe on the same engine gives the same bytes.

use reelmill_av::VideoEngine;
use reelmill_media::ids::BlobHash;
use reelmill_media::task::{Recipe, Task, Way, Work};
use serde::Serialize;

/// What decides the bytes of a task's results.
#[derive(Debug, Serialize)]
struct Ingredients<'a> {
    /// This program's version.
    program: &'a str,
    /// The libraries that decode, filter and encode, with their versions.
    libraries: &'a str,
    /// The source's blocks.
    source: BlobHash,
    recipe: Option<Recipe>,
    work: &'a Work,
    /// Nothing was decoded.
    concealed: bool,
    /// The device that encoded, if one did: its bytes are its own.
    device: Option<VideoEngine>,
}

/// Names the results of `task` on this engine, or on a device of the machine.
pub fn recipe_of(task: &Task, device: Option<VideoEngine>) -> BlobHash {
    let ingredients = Ingredients {
        program: env!("CARGO_PKG_VERSION"),
        libraries: &reelmill_av::libraries(),
        source: task.source.blocks,
        recipe: task.recipe,
        work: &task.work,
        concealed: task.way == Way::Concealed,
        device,
    };
    // Plain data always encodes; were it not so, all names would be one and nothing is decided by them.
    BlobHash::of(&postcard::to_stdvec(&ingredients).unwrap_or_default())
}
