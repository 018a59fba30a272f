//! Numbers of things, for people.

/// So many of what is called so.
pub fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!([0, 1, 2].map(|n| count(n, "receipt")), ["0 receipts", "1 receipt", "2 receipts"]);
    }
}
