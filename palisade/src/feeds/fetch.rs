//! A list over HTTPS (RFC 9110), within bounds: how long it may take, how large it may be, whom to trust, where to
//! be sent on to. Asked for with the marks of the last one, so that an unchanged list costs nobody anything.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use palisade_core::attack::excerpt;
use palisade_core::config::FeedSource;
use palisade_core::time::Span;
use palisade_os::errors::chain;
use rustls::crypto::ring;
use ureq::http::{HeaderMap, Response, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::{Agent, Body, Error};

use super::kept::Marks;
use super::sieve::Sieve;
use super::{Answer, Failure, pour};

/// All of it together: 64 MiB at 5 Mbit/s take 107 s.
const WITHIN: Duration = Duration::from_secs(120);
/// Finding the host, and being let in. Others wait in the meantime.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The answer's beginning: some make their list when it is asked for.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// From one piece to the next.
const PIECE_WITHIN: Duration = Duration::from_secs(20);

/// How often we let ourselves be sent on. Never to http.
const REDIRECTS: u32 = 5;

/// The longest mark that is kept, in bytes: they are hashes and dates.
const MARK_MAX: usize = 512;

/// The longest that we stay away when asked to.
const STAY_AWAY_MAX: u64 = 86_400;

/// Where systems keep the certificates of those who may vouch for servers, all in one file: Debian and others, Red
/// Hat, SUSE, FreeBSD and Alpine, FreeBSD's packages.
const AUTHORITIES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];

/// The largest such file that is read, in bytes; Debian's has 220 KiB.
const AUTHORITIES_MAX: u64 = 8 << 20;

/// Fetches a list, unless it is the one that is known.
pub(super) fn fetch(url: &str, ca: Option<&str>, known: Option<&Marks>, mut sieve: Sieve) -> Result<Answer, Failure> {
    // Its query may hold a key.
    let shown = FeedSource::Url(url.to_owned()).to_string();
    let fail = |error: &Error| Failure::new(format!("{shown}: {}", told(error)));
    let mut request = agent(url, ca)?.get(url);
    for (name, mark) in
        [(header::IF_NONE_MATCH, known.and_then(|m| m.etag.as_ref())), (header::IF_MODIFIED_SINCE, known.and_then(|m| m.modified.as_ref()))]
    {
        if let Some(mark) = mark {
            request = request.header(name, mark);
        }
    }
    let answer = request.call().map_err(|error| fail(&error))?;
    match answer.status().as_u16() {
        200 => {}
        304 if known.is_some() => return Ok(Answer::Same),
        status => return Err(Failure { what: format!("{shown}: {}", refusal(status)), stay_away: stay_away(answer.headers()) }),
    }
    let marks = marks(&answer);
    pour(answer.into_body().into_reader(), &mut sieve).map_err(|error| fail(&Error::from(error)))?;
    Ok(Answer::Copy(sieve.finish(), marks))
}

/// One that asks once: nothing is kept open between two looks.
fn agent(url: &str, ca: Option<&str>) -> Result<Agent, Failure> {
    let remote = url.starts_with("https://");
    let tls = TlsConfig::builder().provider(TlsProvider::Rustls).unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()));
    let tls = if remote { tls.root_certs(authorities(ca)?) } else { tls };
    let config = Agent::config_builder()
        .tls_config(tls.build())
        .https_only(remote)
        // A server of this host has no reason to send us elsewhere.
        .max_redirects(if remote { REDIRECTS } else { 0 })
        .max_redirects_will_error(remote)
        .http_status_as_error(false)
        .user_agent(concat!("palisade/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(WITHIN))
        .timeout_resolve(Some(CONNECT_WITHIN))
        .timeout_connect(Some(CONNECT_WITHIN))
        .timeout_recv_response(Some(ANSWER_WITHIN))
        .timeout_per_read(Some(PIECE_WITHIN));
    Ok(config.build().new_agent())
}

/// Who may vouch for the server.
fn authorities(ca: Option<&str>) -> Result<RootCerts, Failure> {
    let (path, file) = match ca {
        Some(path) => (path, File::open(path).map_err(|error| Failure::new(format!("`ca`: {path}: {error}")))?),
        None => AUTHORITIES.iter().find_map(|path| Some((*path, File::open(path).ok()?))).ok_or_else(|| {
            Failure::new("this system has no certificates to know a server by; install ca-certificates, or name a file of them in `ca`")
        })?,
    };
    let mut pem = Vec::new();
    file.take(AUTHORITIES_MAX).read_to_end(&mut pem).map_err(|error| Failure::new(format!("{path}: {error}")))?;
    let all: Vec<Certificate<'static>> =
        parse_pem(&pem).filter_map(|item| if let Ok(PemItem::Certificate(one)) = item { Some(one) } else { None }).collect();
    if all.is_empty() {
        return Err(Failure::new(format!("{path} holds no certificate (PEM)")));
    }
    Ok(RootCerts::from(all))
}

fn marks(answer: &Response<Body>) -> Marks {
    let mark = |name: header::HeaderName| {
        let text = answer.headers().get(name)?.to_str().ok()?;
        (text.len() <= MARK_MAX).then(|| text.to_owned())
    };
    Marks { etag: mark(header::ETAG), modified: mark(header::LAST_MODIFIED), file: None }
}

/// `Retry-After` in seconds (RFC 9110 10.2.3); a date is not looked at, as clocks differ.
fn stay_away(headers: &HeaderMap) -> Option<Span> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Span::secs(seconds.min(STAY_AWAY_MAX)))
}

fn refusal(status: u16) -> String {
    let why = match status {
        301..=308 => "it is somewhere else now: write where in `url`",
        401 | 403 => "the server does not let us have it",
        404 | 410 => "there is no such list any more: look where it is now",
        429 => "the server wants to be asked less often: raise `every`",
        500..=599 => "the server has a problem of its own",
        _ => "no list came",
    };
    format!("answered {status}: {why}")
}

/// What went wrong, and what to do where it is ours to do.
fn told(error: &Error) -> String {
    match error {
        Error::RequireHttpsOnly(to) => {
            let to = to.split('?').next().unwrap_or_default();
            format!("it sends us on to {}, where anybody on the way could change the list; this is not followed", excerpt(to.as_bytes()))
        }
        Error::HostNotFound => "its host name does not resolve".to_owned(),
        Error::Timeout(what) => format!("it takes too long ({what})"),
        Error::TooManyRedirects => format!("it sends us on more than {REDIRECTS} times"),
        other => {
            let chain = if let Error::Io(error) = other { chain(error) } else { chain(other) };
            let text = excerpt(chain.as_bytes());
            let own = if text.contains("ertificate") {
                "; if its authority is one of your own, name the file of its certificate in `ca`"
            } else {
                ""
            };
            format!("{text}{own}")
        }
    }
}
