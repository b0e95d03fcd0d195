//! What to begin with: what the project has anyway.

use palisade_core::scan::{builtin, shipped};

/// Every hit and miss of every shipped signature.
pub fn lines() -> Vec<Vec<u8>> {
    let rules = builtin().iter().flat_map(|signature| signature.rules());
    let lines = rules.flat_map(|rule| rule.hits().iter().map(|hit| &hit.line).chain(rule.misses()));
    lines.map(|line| line.clone().into_bytes()).collect()
}

/// The same as engines and syslog daemons hand them on, each in another way, and some in pieces.
pub fn wrapped() -> Vec<Vec<u8>> {
    let mut all = lines();
    let dressed: Vec<Vec<u8>> = all.iter().enumerate().map(|(number, line)| dressed(number, &String::from_utf8_lossy(line))).collect();
    // Several lines of one file, too: what one leaves behind must not change the next.
    all.extend(dressed.chunks(7).map(|lines| lines.join(&b'\n')).collect::<Vec<_>>());
    all.extend(dressed);
    all
}

fn dressed(number: usize, line: &str) -> Vec<u8> {
    let time = "2026-11-22T17:00:00Z";
    let json = |text: &str| serde_json::to_string(text).expect("any text is a JSON string");
    let half = (0..=line.len() / 2).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    let (head, tail) = line.split_at(half);
    match number % 9 {
        0 => format!(r#"{{"log":{},"stream":"stdout","time":"{time}"}}"#, json(&format!("{line}\n"))),
        1 => format!("{time} stderr F {line}"),
        2 => format!("{time} stdout P {head}\n{time} stdout F {tail}"),
        3 => format!(
            "{{\"log\":{},\"stream\":\"stderr\",\"time\":\"{time}\"}}\n{{\"log\":{},\"stream\":\"stderr\",\"time\":\"{time}\"}}",
            json(head),
            json(&format!("{tail}\n"))
        ),
        4 => format!("\u{1b}[1;32m{head}\u{1b}[0m{tail}\r"),
        5 => format!(r#"{{"@timestamp":"{time}","host":"h","programname":"sshd","message":{}}}"#, json(line)),
        6 => format!("<34>1 {time} host sshd 7 - - {line}"),
        7 => format!("Nov 22 17:00:00 host sshd[7]: {line}"),
        _ => format!(r#"{{"PROGRAM":"sshd","MESSAGE":{},"ISODATE":"{time}"}}"#, json(line)),
    }
    .into_bytes()
}

/// A filter of fail2ban, what it includes, its local, and a call of it.
pub fn filters() -> Vec<Vec<u8>> {
    let main = "[INCLUDES]\nbefore = common.conf\n[DEFAULT]\n_daemon = door\n[Definition]\nprefregex = ^%(__prefix_line)s<F-CONTENT>.+</F-CONTENT>$\n\
        failregex = ^refused <F-USER>\\S+</F-USER> from <HOST>( port \\d+)?$\n            ^<mdre-<mode>>\nmdre-normal = bad <ADDR>\n\
        mdre-aggressive = %(mdre-normal)s|gone <IP4>\nignoreregex =\nmode = normal\nmaxlines = 2\njournalmatch = _SYSTEMD_UNIT=door.service + _COMM=door\n\
        datepattern = {^LN-BEG}%%Y-%%m-%%d[T ]%%H:%%M:%%S\n";
    let common = "[DEFAULT]\n__prefix_line = (?:\\S+ )?(?:%(_daemon)s(?:\\[\\d+\\])?:)?\\s*\n_daemon = \\S*\n";
    let local = "[Definition]\nfailregex = %(known/failregex)s\n            ^(?P<x>a|b)(?=c)(?P=x) <SUBNET>\n[Init]\nmaxlines = 3\n";
    vec![[main, common, local, "door[mode=aggressive, x=\"a, b\"]"].join("\0").into_bytes()]
}

/// Expressions in fail2ban's words, and lines for them.
pub fn expressions() -> Vec<Vec<u8>> {
    [
        ["^refused <HOST>$", "", "refused 192.0.2.7"],
        [
            "^<F-NOFAIL>in</F-NOFAIL> <F-MLFID>\\d+</F-MLFID> <ADDR>",
            "^x (?:\\[y\\] )?<F-CONTENT>.+</F-CONTENT>$",
            "x in 7 2001:db8::7\nx [y] in 7 192.0.2.7",
        ],
        ["(?i)^(?:a|b(?!c))+(?P<q>['\"]).*?(?P=q) from (?:::f{4,6}:)?(?P<host>\\S+)\\b", "", "ab'x' from ::ffff:192.0.2.7"],
        ["^(?<=x)(?:[^\\s\"']|\\\\.){0,9}?\\Z<SKIPLINES><HOST>", "", "x\ny 192.0.2.7"],
    ]
    .iter()
    .map(|parts| parts.join("\0").into_bytes())
    .collect()
}

/// `jail.conf`, `jail.local`, a part of `jail.d`, a filter, and `sshguard.conf`.
pub fn jails() -> Vec<Vec<u8>> {
    let stock = "[DEFAULT]\nbantime = 10m\nfindtime = 10m\nmaxretry = 5\nbackend = auto\nenabled = false\nmode = normal\nport = 0:65535\n\
        filter = %(__name__)s[mode=%(mode)s]\nbanaction = iptables-multiport\naction_ = %(banaction)s[port=\"%(port)s\"]\naction = %(action_)s\n\
        [door]\nport = ssh,6000:6007\nlogpath = /var/log/auth.log\n";
    let local = "[DEFAULT]\nbantime = 1h\nbantime.increment = true\nbantime.maxtime = 5w\nignoreip = 127.0.0.1/8 ::1 office.example.org\n\
        [door]\nenabled = true\nmaxretry = 3\nbantime.multipliers = 1 6 144\n[Door]\nenabled = yes\nfilter = door[x=\"a\nb\"]\nlogpath = /x/*.log tail\n";
    let part = "[web]\nenabled = 1\nfilter = door\nbackend = systemd\njournalmatch = _SYSTEMD_UNIT=web.service + _COMM=web\n";
    let filter = "[Definition]\nfailregex = ^x <HOST>\n";
    let sshguard = "BACKEND=\"/usr/libexec/sshguard/sshg-fw-nft-sets\"\nFILES=\"/var/log/auth.log /var/log/maillog\"\nLOGREADER=\"journalctl -afb -t sshd -u postfix\"\n\
        THRESHOLD=35\nBLOCK_TIME=300\nDETECTION_TIME=1800\nIPV6_SUBNET=64\nWHITELIST_FILE=/f/white\nBLACKLIST_FILE=90:/x\n";
    vec![[stock, local, part, filter, sshguard].join("\0").into_bytes()]
}

/// Those with fields, and what wraps them.
pub fn records() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = lines().into_iter().filter(|line| line.contains(&b'{') || line.contains(&b'=')).collect();
    all.extend([
        br#"{"log":"x\n","stream":"stdout","time":"2026-11-22T17:00:00Z"}"#.to_vec(),
        b"2026-11-22T17:00:00.123456789Z stdout F x".to_vec(),
        br#"{"peer":{"ip":"192.0.2.7"},"status":401,"user":"\u0041"}"#.to_vec(),
        br#"level=info peer.ip=192.0.2.7 status=401 user="a b""#.to_vec(),
        br#"{"@timestamp":"2026-11-22T17:00:00Z","programname":"sshd","message":"x"}"#.to_vec(),
    ]);
    all
}

/// Every shipped signature, and a small one.
pub fn signatures() -> Vec<Vec<u8>> {
    let small = "name='x'\nservice='x'\nsummary=''\nkind='plain'\n[[rule]]\nid='a'\nscore=10\npattern='^x <user> <addr>$'\nhits=[{line='x y 192.0.2.7',addr='192.0.2.7'}]\n";
    shipped().iter().map(|(_, text)| *text).chain([small]).map(|text| text.as_bytes().to_vec()).collect()
}

/// The sample config, and a small one.
pub fn configs() -> Vec<Vec<u8>> {
    vec![include_bytes!("../../etc/palisade.toml").to_vec(), b"[jail.sshd]\nmax_retry = 3\n".to_vec()]
}

/// Requests on the control socket.
pub fn requests() -> Vec<Vec<u8>> {
    ["status", "bans", "reload", "ping", "unban"].iter().map(|verb| format!("{{\"{verb}\":{{}}}}\n\"{verb}\"").into_bytes()).collect()
}

/// Tables of a few formats, behind the two bytes that choose one.
pub fn tables() -> Vec<Vec<u8>> {
    ["192.0.2.7\n", "192.0.2.0/24 ; comment\n", "{\"cidr\":\"192.0.2.0/24\"}\n", "ip,reason\n192.0.2.7,\"a, b\"\n"]
        .iter()
        .zip(0u8..)
        .map(|(text, format)| [&[format, 3], text.as_bytes()].concat())
        .collect()
}

/// No more than four zeros.
pub fn nothing() -> Vec<Vec<u8>> {
    vec![vec![0; 4]]
}
