//! What is printed: a table in Markdown, with the bar beside what was measured.

use std::fmt;

/// What its lines stand under.
pub const HEAD: &str = "| what | measured | bar |\n|---|---|---|";

/// One line.
#[derive(Debug)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// What came out.
    pub measured: String,
    /// What is wanted.
    pub bar: String,
}

impl fmt::Display for Row {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "| {} | {} | {} |", self.what, self.measured, self.bar)
    }
}
