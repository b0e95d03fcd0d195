//! What stands in a pattern for an address, a time, and the like.

/// Dates as log lines begin with them. Numbers of fixed lengths, so that none runs into what follows.
///
/// | shape | who writes it |
/// |---|---|
/// | `2026-11-22T17:00:00.5+01:00`, also with blank, `/` or `.`, `,` before the fraction, and a zone's name | RFC 3339 and its relatives |
/// | `Sun Nov 22 17:00:00.5 2026`, `Nov 22 17:00:00`, `Nov 22 2026 17:00:00` | asctime(3), RFC 3164 |
/// | `22/Nov/2026:17:00:00 +0100`, `22-Nov-2026 17:00:00.5`, `22 Nov 2026 17:00:00` | web servers, BIND |
/// | `22.11.2026 17:00:00`, `11/22/2026 17:00:00`, `11/22/26 17:00:00` | by region |
/// | `261122 17:00:00`, `20261122 17:00:00` | old MySQL |
/// | `1795366800.123` | seconds since 1970 |
pub(super) const TIME: &str = concat!(
    "(?P<time>",
    "[0-9]{4}[-/.][0-9]{2}[-/.][0-9]{2}(?:[T_ -]|, | - )[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?(?:Z| ?[+-][0-9]{2}:?[0-9]{2}| [A-Z]{3,4})?",
    "|(?:[A-Z][a-z]{2},? )?[A-Z][a-z]{2} {1,2}[0-9]{1,2} (?:[0-9]{4},? )?[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?(?: [A-Z]{3,4})?(?: [0-9]{4})?",
    "|[0-9]{2}[-/ ][A-Z][a-z]{2}[-/ ][0-9]{4}[: ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?(?: [+-][0-9]{4})?",
    "|[0-9]{1,2}[./-][0-9]{1,2}[./-](?:[0-9]{2}){1,2},? [0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?(?: [AP]M)?",
    "|[0-9]{6}(?:[0-9]{2})? {1,2}[0-9]{1,2}:[0-9]{2}:[0-9]{2}",
    "|[0-9]{10}(?:\\.[0-9]{1,9})?",
    ")"
);

/// What stands for what.
const PLACEHOLDERS: [(&str, &str); 5] = [
    ("<addr>", "(?P<addr>[0-9A-Fa-f:.]{2,45})"),
    ("<port>", "[0-9]{1,5}"),
    ("<user>", "(?P<user>.*)"),
    ("<host>", "[0-9A-Za-z._:-]{0,255}"),
    ("<time>", TIME),
];

/// The zone of a link-local address, by the system that logs.
const ZONE: &str = "%[0-9A-Za-z_.-]{1,32}";

/// What groups are called that `expand` puts around what is owned by its nature.
pub(super) const OWN: &str = "own_";

/// Puts the placeholders' regexes in; `(?P<addr>` and other `<` stay as they are. With `marks`, each
/// that a client cannot write past is a group, for the lint to see.
pub(super) fn expand(text: &str, marks: bool) -> String {
    let mut count = 0;
    let mut mark = |out: &mut String, regex: &str| {
        count += 1;
        out.push_str(&if marks { format!("(?P<{OWN}{count}>{regex})") } else { format!("(?:{regex})") });
    };
    let mut out = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (head, tail) = rest.split_at(at);
        out.push_str(head);
        let named = out.ends_with("(?P") || out.ends_with("(?");
        match PLACEHOLDERS.iter().find(|(name, _)| !named && tail.starts_with(name)) {
            Some((name, regex)) => {
                match *name {
                    "<host>" => mark(&mut out, regex),
                    "<addr>" => {
                        out.push_str(regex);
                        mark(&mut out, ZONE);
                        out.push('?');
                    }
                    _ => out.push_str(regex),
                }
                rest = &tail[name.len()..];
            }
            None => {
                out.push('<');
                rest = &tail[1..];
            }
        }
    }
    out.push_str(rest);
    out
}
