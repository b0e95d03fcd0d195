//! Who opens flows, how fast.

use std::collections::HashMap;

use super::heavy::{Goal, Heavy, Host, Net, largest};
use crate::flood::flow::{Endpoint, Flow};
use crate::net::Prefix;
use crate::time::{Span, Tick};

/// In this time, half of what an answer rests on is new.
pub const HALF: Span = Span::secs(1);

/// Buckets are not closed sooner than this: shorter ones would only be noise, and each closing passes over all rows.
const BUCKET: Span = Span::millis(250);

/// Rates below this are forgotten, in flows a second.
const FAINT: f32 = 0.01;

/// Flows opened a second by host, /64 and endpoint, from NEW events heard: an exponentially weighted mean with a half-life of [`HALF`].
///
/// What has been listened to for less than that is weighed by how long it has been: one second after listening began, the mean over
/// that second is the answer, not half of it. Whoever begins to open flows while it is listened to is at half its rate after a
/// second, at three quarters after two.
///
/// Bounded: at most 7/4 `room` rows of a bucket, and `room` rates, of each of the three kinds. Rates are never too large (but for what
/// sampling errs), and too small by at most 3/(`room` + 1) of the highest rate of all together: a bucket counts as a fold does, and
/// of the rates that stand the smallest are given up.
#[derive(Clone, Debug)]
pub struct Opened {
    hosts: Rates<Host>,
    nets: Rates<Net>,
    endpoints: Rates<Goal>,
    all: Mean,
    bucket: f64,
    /// Since when, and until when buckets are closed.
    heard: Option<(Tick, Tick)>,
}

/// The rates of one kind of key.
#[derive(Clone, Debug)]
struct Rates<K> {
    room: usize,
    bucket: Heavy<K, ()>,
    rates: HashMap<K, f32>,
}

/// A weighted mean, biased towards 0 until it has been taken for long.
type Mean = f32;

/// Weights are counted in so many parts: a bucket counts in whole numbers.
const PARTS: f32 = 16.0;

/// What a bucket's closing weighs: how much of the old mean stays, and what one part of the bucket adds.
#[derive(Clone, Copy)]
struct Closing {
    stays: f32,
    adds: f32,
}

/// How much of the old stays after `passed`.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a rate to a few digits")]
fn stays(passed: Span) -> f32 {
    (-(passed.as_millis() as f64) / HALF.as_millis() as f64).exp2() as f32
}

impl<K: Copy + Ord + std::hash::Hash> Rates<K> {
    fn new(room: usize) -> Self {
        Self { room: room.max(1), bucket: Heavy::new(room), rates: HashMap::new() }
    }

    fn close(&mut self, closing: Closing) {
        self.rates.values_mut().for_each(|rate| *rate *= closing.stays);
        for (key, parts) in self.bucket.drain() {
            #[expect(clippy::cast_precision_loss, reason = "a rate to seven digits")]
            let adds = parts as f32 * closing.adds;
            *self.rates.entry(key).or_default() += adds;
        }
        self.rates.retain(|_, rate| *rate >= FAINT);
        if self.rates.len() > self.room {
            let rates = self.rates.iter().map(|(key, rate)| (*key, *rate)).collect();
            self.rates = largest(rates, self.room, highest).into_iter().collect();
        }
    }
}

/// Highest first, of equals the lower key.
fn highest<K: Ord>(a: &(K, f32), b: &(K, f32)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0))
}

impl Opened {
    /// Nothing heard yet. `room`: of how many hosts, /64s and endpoints the rate is known.
    pub fn new(room: usize) -> Self {
        let (hosts, nets, endpoints) = (Rates::new(room), Rates::new(room), Rates::new(room));
        Self { hosts, nets, endpoints, all: 0.0, bucket: 0.0, heard: None }
    }

    /// A flow was opened, and is told of for `weight` of them (a negative or unbounded weight is none).
    pub fn add(&mut self, flow: &Flow, weight: f32) {
        if !(weight > 0.0 && weight.is_finite()) {
            return;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float to int saturates; it is above 0")]
        let parts = (weight * PARTS).round().max(1.0) as u32;
        let host = Host::of(flow.source);
        self.hosts.bucket.add(host, parts);
        if let Some(net) = host.net() {
            self.nets.bucket.add(net, parts);
        }
        self.endpoints.bucket.add(Goal::of(flow), parts);
        self.bucket += f64::from(weight);
    }

    /// Closes the bucket: what came since the last closing counts from now on. Call it each second; sooner than a quarter of one
    /// after the last it does nothing.
    ///
    /// The first call says since when is listened: what came before is not counted, for nobody knows in what time it came.
    pub fn settle(&mut self, now: Tick) {
        let Some((since, last)) = self.heard else {
            self.forget();
            self.heard = Some((now, now));
            return;
        };
        let passed = now.since(last);
        if passed < BUCKET {
            return;
        }
        let stays = stays(passed);
        #[expect(clippy::cast_precision_loss, reason = "a rate to a few digits")]
        let per_flow = f64::from(1.0 - stays) * 1000.0 / passed.as_millis() as f64;
        #[expect(clippy::cast_possible_truncation, reason = "a rate to a few digits")]
        let (adds, came) = ((per_flow / f64::from(PARTS)) as f32, (self.bucket * per_flow) as f32);
        let closing = Closing { stays, adds };
        self.hosts.close(closing);
        self.nets.close(closing);
        self.endpoints.close(closing);
        self.all = self.all * stays + came;
        self.bucket = 0.0;
        self.heard = Some((since, now));
    }

    /// Throws away what came into the bucket.
    fn forget(&mut self) {
        self.hosts.bucket = Heavy::new(self.hosts.room);
        self.nets.bucket = Heavy::new(self.nets.room);
        self.endpoints.bucket = Heavy::new(self.endpoints.room);
        self.bucket = 0.0;
    }

    /// What a mean is multiplied by, for having been taken so shortly; `None` where no bucket was closed yet.
    fn fullness(&self) -> Option<f32> {
        let (since, last) = self.heard?;
        (last > since).then(|| 1.0 / (1.0 - stays(last.since(since))))
    }

    /// How many flows a host or a /64 opens a second; 0 where nothing is heard of it. `None` where no bucket was closed yet, and of
    /// other prefixes.
    pub fn per_second(&self, prefix: Prefix) -> Option<f32> {
        let full = self.fullness()?;
        let host = Host::of(prefix.addr());
        let rate = match (prefix.is_host(), host.net()) {
            (true, _) => self.hosts.rates.get(&host),
            (false, Some(net)) if prefix.len() == super::NET => self.nets.rates.get(&net),
            _ => return None,
        };
        Some(rate.map_or(0.0, |rate| rate * full))
    }

    /// The same of flows to an endpoint, whoever opens them.
    pub fn to(&self, endpoint: Endpoint) -> Option<f32> {
        let full = self.fullness()?;
        Some(self.endpoints.rates.get(&Goal::from(endpoint)).map_or(0.0, |rate| rate * full))
    }

    /// The same of all together.
    pub fn all(&self) -> Option<f32> {
        self.fullness().map(|full| self.all * full)
    }

    /// The hosts that open the most, fastest first.
    pub fn hosts(&self, most: usize) -> Vec<(Prefix, f32)> {
        self.listed(&self.hosts, most, Host::prefix)
    }

    /// The same of /64s.
    pub fn nets(&self, most: usize) -> Vec<(Prefix, f32)> {
        self.listed(&self.nets, most, Net::prefix)
    }

    /// The endpoints that the most are opened to, fastest first.
    pub fn endpoints(&self, most: usize) -> Vec<(Endpoint, f32)> {
        self.listed(&self.endpoints, most, Goal::endpoint)
    }

    fn listed<K: Copy + Ord, T>(&self, rates: &Rates<K>, most: usize, name: impl Fn(K) -> T) -> Vec<(T, f32)> {
        let Some(full) = self.fullness() else { return Vec::new() };
        let all = rates.rates.iter().map(|(key, rate)| (*key, *rate)).collect();
        largest(all, most, highest).into_iter().map(|(key, rate)| (name(key), rate * full)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flood::census::fold::tests::flow;
    use proptest::prelude::*;

    fn host(n: u8) -> Flow {
        flow(&format!("192.0.2.{n}"), "198.51.100.1", 443)
    }

    fn rate(opened: &Opened, prefix: &str) -> Option<f32> {
        opened.per_second(prefix.parse().unwrap())
    }

    fn near(a: Option<f32>, b: f32) -> bool {
        a.is_some_and(|a| (a - b).abs() <= b * 0.001 + 0.001)
    }

    #[test]
    fn figures_by_hand() {
        let mut opened = Opened::new(16);
        opened.add(&host(1), 64.0);
        assert_eq!(rate(&opened, "192.0.2.1"), None);
        opened.settle(Tick(10_000));
        assert_eq!(rate(&opened, "192.0.2.1"), None);
        (0..100).for_each(|_| opened.add(&host(1), 1.0));
        (0..2).for_each(|_| opened.add(&flow("2001:db8::1", "198.51.100.1", 443), 64.0));
        opened.settle(Tick(11_000));
        // After one second of listening: what came in it, less what was before the first settling.
        assert!(near(rate(&opened, "192.0.2.1"), 100.0), "{opened:?}");
        assert!(near(rate(&opened, "2001:db8::1"), 128.0) && near(rate(&opened, "2001:db8::/64"), 128.0));
        assert_eq!((rate(&opened, "192.0.2.9"), rate(&opened, "192.0.2.0/24"), rate(&opened, "2001:db8::/48")), (Some(0.0), None, None));
        assert!(near(opened.to("198.51.100.1:443/tcp".parse().unwrap()), 228.0) && near(opened.all(), 228.0));
        // Nothing for a second more: (0/2 + 100/4) / (1/2 + 1/4).
        opened.settle(Tick(12_000));
        assert!(near(rate(&opened, "192.0.2.1"), 100.0 / 3.0));
        // 300 in two seconds, 150/s: (100/4 * 1/4 + 150 * 3/4) / (15/16).
        opened.add(&host(1), 300.0);
        opened.settle(Tick(14_000));
        assert!(near(rate(&opened, "192.0.2.1"), (6.25 + 112.5) * 16.0 / 15.0), "{:?}", rate(&opened, "192.0.2.1"));
        assert_eq!(opened.hosts(1)[0].0, "192.0.2.1".parse().unwrap());
    }

    #[test]
    fn one_who_begins_is_at_half_its_rate_after_a_second_and_forgotten_when_it_ends() {
        let mut opened = Opened::new(16);
        (0..=60).for_each(|s| opened.settle(Tick(s * 1000)));
        opened.add(&host(1), 1000.0);
        opened.settle(Tick(60_100));
        assert_eq!(rate(&opened, "192.0.2.1"), Some(0.0), "a bucket is not closed that soon");
        opened.settle(Tick(61_000));
        assert!(near(rate(&opened, "192.0.2.1"), 500.0));
        (62..=80).for_each(|s| opened.settle(Tick(s * 1000)));
        assert_eq!((opened.hosts.rates.len(), opened.endpoints(9).len()), (0, 0));
    }

    #[test]
    fn weights_that_are_none_and_a_clock_that_stands_still() {
        let mut opened = Opened::new(16);
        (0..2).for_each(|_| opened.settle(Tick(5)));
        [f32::NAN, -1.0, 0.0, f32::INFINITY].into_iter().for_each(|weight| opened.add(&host(1), weight));
        opened.settle(Tick(0));
        assert_eq!((opened.all(), rate(&opened, "192.0.2.1")), (None, None));
        opened.settle(Tick(2000));
        assert_eq!((opened.all(), rate(&opened, "192.0.2.1")), (Some(0.0), Some(0.0)));
    }

    proptest! {
        #[test]
        fn bounds_hold_against_an_exact_rate(room in 1_usize..30, seconds in proptest::collection::vec(proptest::collection::vec((0_u8..100, 0_u8..3), 0..300), 1..8)) {
            let mut opened = Opened::new(room);
            let mut exact = [0.0_f32; 100];
            let (mut all, mut most) = (0.0_f32, 0.0_f32);
            opened.settle(Tick(0));
            for (second, heard) in (1_u64..).zip(&seconds) {
                exact.iter_mut().for_each(|rate| *rate /= 2.0);
                all /= 2.0;
                for (n, busy) in heard {
                    let n = if *busy == 0 { *n } else { n % 3 };
                    opened.add(&host(n), 1.0);
                    exact[usize::from(n)] += 0.5;
                    all += 0.5;
                }
                most = most.max(all).max(heard.len() as f32);
                opened.settle(Tick(second * 1000));
                prop_assert!(opened.hosts.rates.len() <= room);
            }
            let full = opened.fullness().unwrap();
            // What is faint is forgotten.
            let error = (3.0 * most / (room as f32 + 1.0)).mul_add(full, 2.0 * FAINT * full);
            for (n, rate) in (0_u8..).zip(exact) {
                let said = opened.per_second(Prefix::host(host(n).source)).unwrap();
                prop_assert!(said <= rate.mul_add(full, 0.01), "{n}: {said} of {}", rate * full);
                prop_assert!(said >= rate * full - error - 0.01, "{n}: {said} of {}, error {error}", rate * full);
            }
        }
    }
}
