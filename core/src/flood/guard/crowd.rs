//! Many that open few flows each, all to one endpoint: a SYN flood with forged sources, and nobody to name.
//!
//! Seen only under pressure, when those who are named do not explain half of what is too much, and one endpoint does,
//! from at least a source each eight flows, most of them unassured: real visitors of a site that is suddenly famous finish
//! their handshakes and are assured.

use std::collections::HashMap;

use super::habit::{Envelope, Season};
use super::level::percent;
use crate::flood::census::Census;
use crate::flood::flow::Endpoint;
use crate::flood::settings::Settings;
use crate::time::Span;

/// Fewer sources are no crowd.
const SOURCES: u64 = 256;

/// So many flows has one of a crowd at most.
const EACH: f64 = 8.0;

/// A crowd with less than this share of the table is none to care about.
const LEAST: f64 = 1.0 / 16.0;

/// Endpoints whose habit is known; a census names 64.
const ROOM: usize = 1024;

/// A rise at most doubles the habit in an hour.
const DOUBLES: f64 = 3600.0;

/// What came for one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    pub to: Endpoint,
    pub flows: u32,
    pub usual: f64,
    /// It is a crowd; `None`: not (any more).
    pub over: Option<String>,
    /// Too much to be let go.
    pub stays: bool,
}

/// What all endpoints usually have.
#[derive(Clone, Debug, Default)]
pub(super) struct Crowds {
    total: Envelope,
    endpoints: HashMap<Endpoint, Envelope>,
}

/// New flows a second that a crowd may open: what lives for the 8 seconds of `syn_recv` in the attack profile, and one burst
/// of a second, stay below a quarter of the table.
pub(super) fn rate(max: u32) -> u32 {
    (max / 40).max(1)
}

impl Crowds {
    /// Looks at every endpoint of a census. `explained`: how many flows too many are those of culprits with a name.
    pub(super) fn look(
        &mut self,
        census: &Census,
        explained: f64,
        standing: &dyn Fn(Endpoint) -> bool,
        settings: &Settings,
        season: &Season,
    ) -> Vec<Sighting> {
        let excess = (census.flows as f64 - self.total.0).max(0.0);
        let most = census.endpoints.iter().max_by_key(|(_, flows)| *flows).map(|(to, _)| *to);
        let sightings = census.endpoints.iter().map(|(to, flows)| {
            let usual = self.endpoints.get(to).map_or(0.0, |usual| usual.0);
            let more = (f64::from(*flows) - usual).max(0.0);
            let least = LEAST * f64::from(season.max);
            let explains = more >= excess / 2.0 && explained < excess / 2.0 && more >= least;
            let crowd = census.sources >= SOURCES && census.sources as f64 >= more / EACH && f64::from(census.typical.1) <= EACH;
            let half_open = f64::from(census.unassured) >= more / 2.0;
            let over = (season.pressed && season.max > 0 && settings.enabled && most == Some(*to) && explains && crowd && half_open)
                .then(|| Self::why(census, *flows, usual, season));
            Sighting { to: *to, flows: *flows, usual, over, stays: more >= least / 2.0 }
        });
        let sightings: Vec<Sighting> = sightings.collect();
        self.learn(census, explained, standing, season);
        sightings
    }

    fn why(census: &Census, flows: u32, usual: f64, season: &Season) -> String {
        let share = percent(f64::from(flows) / f64::from(season.max.max(1)));
        format!(
            "{flows} flows ({share} of the table) where {usual:.0} are usual, from {} sources of which 9 of 10 hold at most {}: forged sources, or very many",
            census.sources, census.typical.1
        )
    }

    fn learn(&mut self, census: &Census, explained: f64, standing: &dyn Fn(Endpoint) -> bool, season: &Season) {
        if season.pressed {
            return;
        }
        let elapsed = super::forecast::seconds(season.elapsed.unwrap_or(Span::ZERO).min(Span::secs(600)));
        let floor = LEAST * f64::from(season.max) / 4.0;
        let all = (census.flows as f64 - explained).max(0.0);
        match season.elapsed {
            None => self.total = Envelope(all),
            Some(_) => self.total.learn(all, floor, DOUBLES, elapsed),
        }
        for (to, flows) in census.endpoints.iter().filter(|(to, _)| !standing(*to)) {
            let first = season.elapsed.is_none();
            let usual = self.endpoints.entry(*to).or_insert_with(|| Envelope(if first { f64::from(*flows) } else { 0.0 }));
            usual.learn(f64::from(*flows), floor, DOUBLES, elapsed);
        }
        if self.endpoints.len() > ROOM {
            let mut all: Vec<(f64, Endpoint)> = self.endpoints.iter().map(|(to, usual)| (usual.0, *to)).collect();
            all.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            self.endpoints = all.into_iter().take(ROOM).map(|(usual, to)| (to, Envelope(usual))).collect();
        }
    }

    /// How many endpoints have a habit.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.endpoints.len()
    }
}
