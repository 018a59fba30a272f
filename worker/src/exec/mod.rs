//! What runs inside the child process: one synchronous loop that reads a job, makes it, and ends.

mod cut;
pub mod protocol;

pub use cut::NotPlanned;
