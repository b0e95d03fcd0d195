//! Many samples in, a few honest numbers out.

use std::time::Duration;

/// Samples of one thing, in seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Takes one more.
    pub(crate) fn push(&mut self, sample: Duration) {
        self.0.push(sample.as_secs_f64());
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest sample that at least `share` (0 to 1) of all samples do not exceed; nearest rank,
    /// so it is always one that was measured. Zero where there are none.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a rank among a few thousand")]
    pub(crate) fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    }

    /// The middle one.
    pub(crate) fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// The largest.
    pub(crate) fn max(&self) -> f64 {
        self.at(1.0)
    }
}

/// Seconds for people: three digits and the unit that fits.
pub(crate) fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "µs"),
    };
    match value {
        v if v >= 100.0 => format!("{v:.0} {unit}"),
        v if v >= 10.0 => format!("{v:.1} {unit}"),
        v => format!("{v:.2} {unit}"),
    }
}

/// How many times `rival` is `ours`.
pub(crate) fn ratio(rival: f64, ours: f64) -> String {
    match rival / ours {
        r if !r.is_finite() => "-".to_owned(),
        r if r >= 10.0 => format!("{r:.0}x"),
        r if r >= 1.0 => format!("{r:.1}x"),
        r => format!("{r:.2}x"),
    }
}

/// KiB as MiB.
pub(crate) fn mib(kib: u64) -> String {
    format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)
}

/// 1234567 as 1,234,567.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_samples() {
        let mut samples = Samples::default();
        (1..=200).for_each(|ms| samples.push(Duration::from_millis(ms)));
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(samples.median(), 0.1) && close(samples.at(0.99), 0.198) && close(samples.max(), 0.2));
        assert!(close(Samples::default().median(), 0.0));
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!((time(0.000_123), time(0.012), time(7.0)), ("123 µs".into(), "12.0 ms".into(), "7.00 s".into()));
        assert_eq!((ratio(5.0, 0.1), ratio(1.0, 50.0), ratio(1.0, 0.0)), ("50x".into(), "0.02x".into(), "-".into()));
        assert_eq!((grouped(1_000_000), grouped(999), mib(1536)), ("1,000,000".into(), "999".into(), "1.5 MiB".into()));
    }
}
