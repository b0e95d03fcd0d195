//! What programs report becomes bans, as if a line had told of it.

use super::wall::Pending;
use super::{Action, Brain};
use crate::attack::{Attack, FULL_FAILURE, JailName, Login, Sign, excerpt};
use crate::control::Reply;
use crate::control::report::{ReportOutcome, ReportResult, Reported, ReportedAs};
use crate::judge::policy::Policy;
use crate::net::{Addr, Prefix};
use crate::time::Stamp;

/// Exit code for a name that is not in the config (see `palisade --help`).
const EXIT_USAGE: u8 = 2;

/// What evidence calls the signature of a report, and the service.
const SIGNATURE: &str = "report";

impl Reported {
    /// What each address of it means for the court. `policy` is the jail's.
    pub fn sign(&self, addr: Addr, policy: &Policy) -> Sign {
        let (jail, signature, service) = (self.jail.clone(), SIGNATURE.into(), self.jail.0.clone());
        // Whoever reports passes on what an attacker typed.
        let (user, line) = (self.user.as_ref().map(|user| excerpt(user.as_bytes())), excerpt(self.reason.as_bytes()));
        let score = match self.what {
            ReportedAs::Login => return Sign::Login(Login { addr, jail, signature, service, at: None, user, line }),
            ReportedAs::Failure(score) => score,
            ReportedAs::Abuse => policy.max_retry.saturating_mul(FULL_FAILURE),
        };
        Sign::Attack(Attack { addr, jail, signature, service, score, at: None, user, line })
    }
}

impl Brain {
    pub(super) fn reported(&mut self, id: u64, report: &Reported, now: Stamp) {
        let Some(jail) = self.config.jail(&report.jail).filter(|jail| jail.enabled) else {
            return self.out.push(Action::Answer { id, reply: self.no_such_jail(&report.jail) });
        };
        let policy = jail.policy.clone();
        let (mut results, mut made) = (Vec::with_capacity(report.addrs.len()), Vec::new());
        for addr in &report.addrs {
            self.sign(report.sign(*addr, &policy), false, now, &mut made);
            results.push(ReportResult { addr: *addr, what: self.outcome(*addr, &report.jail, &policy, now) });
        }
        let order = Self::blocks(&made);
        let notices = made.iter().map(|(ban, _)| self.notice_of(ban, now)).collect();
        self.order(order, Pending { answer: Some((id, Reply::Reported { results })), notices, ..Pending::default() });
    }

    fn no_such_jail(&self, name: &JailName) -> Reply {
        let names: Vec<&str> = self.config.jails().values().filter(|jail| jail.enabled).map(|jail| jail.name.0.as_ref()).collect();
        let message = format!("no jail `{}` is enabled; there are {}", excerpt(name.0.as_bytes()), names.join(", "));
        Reply::Failed { exit: EXIT_USAGE, message }
    }

    fn outcome(&self, addr: Addr, jail: &JailName, policy: &Policy, now: Stamp) -> ReportOutcome {
        if let Some(ban) = self.table.shut_out(addr, &policy.ports).filter(|ban| !ban.until.over(now)) {
            return ReportOutcome::Banned { until: ban.until };
        }
        if let Err(why) = self.allow.bannable(Prefix::host(addr), now) {
            return ReportOutcome::Refused { protected_by: why.member.to_string() };
        }
        let score = self.court.judge.score(jail, policy.unit(addr), now);
        ReportOutcome::Counted { score, needed: u32::from(policy.max_retry) * u32::from(FULL_FAILURE) }
    }
}
