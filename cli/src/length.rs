//! Lengths of time, for people.

/// So many seconds: `12.5 s`, and from a minute on `1:02` or `1:00:02`.
pub fn length(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds:.1} s"),
        (0, minutes) => format!("{minutes}:{rest:02}"),
        (hours, minutes) => format!("{hours}:{minutes:02}:{rest:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_a_minute_on_it_is_as_on_a_clock() {
        assert_eq!(
            [0.0, 12.54, 59.4, 59.96, 62.4, 3602.0, 360_000.0].map(length),
            ["0.0 s", "12.5 s", "59.4 s", "1:00", "1:02", "1:00:02", "100:00:00"]
        );
    }
}
