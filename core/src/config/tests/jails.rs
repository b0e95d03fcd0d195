//! What single jails may say: sources, zones, filters, reports.

use super::*;

/// What a signature says of its service's places must be what a jail could have written.
#[test]
fn the_places_of_each_shipped_signature_are_sources_of_a_jail() {
    for (name, _) in scan::shipped() {
        let places = scan::places(name).unwrap();
        let (files, journal) = (format!("{:?}", places.files), format!("{:?}", places.journal));
        let ports = if places.ports.is_empty() { "\"all\"".to_owned() } else { format!("{:?}", places.ports) };
        let text = format!("[jail.x]\nenabled = false\nsignatures = [\"sshd\"]\nfiles = {files}\njournal = {journal}\nports = {ports}\n");
        let jail = good(&text).jail(&"x".into()).unwrap().clone();
        assert_eq!((jail.files, jail.journal), (places.files.clone(), places.journal.clone()), "{name}");
        // The web servers' access logs are read by built-in jails of other names.
        assert!(!places.files.is_empty() || !places.journal.is_empty() || places.ports.is_empty(), "{name} has ports and no sources");
    }
}

#[test]
fn no_local_user_can_write_what_a_built_in_jail_or_a_shipped_signature_reads_of_the_journal() {
    let config = Config::builtin();
    let built_in = config.jails().values().flat_map(|jail| jail.journal.clone());
    let shipped = scan::shipped().iter().flat_map(|(name, _)| scan::places(name).unwrap().journal);
    for text in built_in.chain(shipped) {
        assert!(!forgeable(&text), "{text}");
    }
}

#[test]
fn a_match_is_forgeable_unless_it_says_whose_a_record_is() {
    for good in ["_UID=0", "_COMM=sshd _UID=0", "_SYSTEMD_UNIT=a.service", "_TRANSPORT=audit", "_SYSTEMD_SLICE=system.slice _EXE=/bin/x"] {
        assert!(!forgeable(good), "{good}");
    }
    for bad in [
        "_COMM=sshd",
        "SYSLOG_IDENTIFIER=sshd",
        "_EXE=/usr/sbin/sshd _COMM=sshd",
        "UNIT=a.service",
        "_SYSTEMD_UNIT=user@1000.service",
        "_SYSTEMD_UNIT=session-3.scope",
        "_SYSTEMD_USER_UNIT=a.service",
        "_SYSTEMD_SLICE=user-1000.slice",
        "_TRANSPORT=syslog",
        "_SYSTEMD_UNIT=a.service _SYSTEMD_UNIT=session-3.scope",
    ] {
        assert!(forgeable(bad), "{bad}");
    }
}

#[test]
fn a_jail_called_like_a_signature_needs_nothing_else() {
    let vsftpd = scan::places("vsftpd").unwrap();
    let config = good("[jail.vsftpd]\n");
    let jail = config.jail(&"vsftpd".into()).unwrap();
    assert_eq!((jail.signatures.as_slice(), &jail.files), (&["vsftpd".to_owned()][..], &vsftpd.files));
    assert_eq!(jail.policy.ports, Ports::only([21, 990]).unwrap());
    let config = good("[jail.ftp]\nsignatures = [\"dropbear\"]\nports = [2222]\n");
    let jail = config.jail(&"ftp".into()).unwrap();
    assert_eq!((&jail.journal, &jail.policy.ports), (&scan::places("dropbear").unwrap().journal, &Ports::only([2222]).unwrap()));
    // Whoever writes a source means that one and all ports.
    let config = good("[jail.vsftpd]\nfiles = [\"/srv/ftp.log\"]\n");
    let jail = config.jail(&"vsftpd".into()).unwrap();
    assert_eq!((jail.files.as_slice(), &jail.journal, &jail.policy.ports), (&["/srv/ftp.log".to_owned()][..], &vec![], &Ports::All));
}

#[test]
fn a_jail_may_name_the_zone_of_its_times() {
    let config = good("[jail.sshd]\ntimezone = \"America/Argentina/Buenos_Aires\"\n");
    assert_eq!(sshd(&config).timezone.as_deref(), Some("America/Argentina/Buenos_Aires"));
    assert_eq!(good(&show(&config)), config);
    assert_eq!(sshd(&good("")).timezone, None);
    for zone in ["", "/etc/localtime", "../UTC", "Europe/", "Europe/Ber lin", "CET-1CEST,M3.5.0"] {
        let errors = read(&format!("[jail.sshd]\ntimezone = \"{zone}\"\n")).unwrap_err();
        assert!(errors.to_string().contains("is not a zone's name"), "{errors}");
    }
}

#[test]
fn a_jail_runs_a_filter_of_fail2ban_with_its_options() {
    let text = "[jail.x]\nfail2ban = \"/etc/fail2ban/filter.d/x.conf\"\noptions = { mode = \"a, \\\"b\\\"\", maxlines = 3 }\n";
    let config = good(text);
    let jail = config.jail(&"x".into()).unwrap();
    let filter = jail.fail2ban.as_ref().unwrap();
    assert_eq!(filter.path, "/etc/fail2ban/filter.d/x.conf");
    let options: Vec<(&str, &str)> = filter.options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(options, [("maxlines", "3"), ("mode", "a, \"b\"")]);
    // It needs no signature, and the filter may say what to read.
    assert!(jail.signatures.is_empty() && jail.reads(true) == Reads::Nothing);
    assert_eq!(good(&show(&config)), config);

    // A built-in jail keeps what it reads, and holds it against the filter alone unless it says more.
    let config = good("[jail.sshd]\nfail2ban = \"/etc/fail2ban/filter.d/sshd.conf\"\n");
    let filtered = sshd(&config);
    let built_in = Config::builtin();
    assert_eq!((&filtered.files, &filtered.journal), (&sshd(&built_in).files, &sshd(&built_in).journal));
    assert!(filtered.signatures.is_empty() && filtered.fail2ban.is_some());
    assert_eq!(good(&show(&config)), config);
    let both = good("[jail.sshd]\nfail2ban = \"/etc/fail2ban/filter.d/sshd.conf\"\nsignatures = [\"sshd\"]\nfiles = []\n");
    assert_eq!((sshd(&both).signatures.len(), sshd(&both).reads(true)), (1, Reads::Nothing));
    assert_eq!(good(&show(&both)), both);
    assert!(read_all(&["[jail.x]\noptions = { a = \"b\" }\n", "[jail.x]\nfail2ban = \"/a.conf\"\n"]).is_ok());
}

#[test]
fn reports_go_to_the_jail_of_their_port() {
    let text = "[jail.a]\nreports = true\nports = [22]\n[jail.b]\nreports = true\n[blocklistd]\nsocket = \"/run/blocklistd.sock\"\njail = \"b\"\nusers = [\"root\", \"named\"]\n";
    let config = good(text);
    let jail = |port| config.blocklistd().jail_for(config.jails(), port).map(|name| name.0.to_string());
    assert_eq!((jail(Some(22)), jail(Some(21)), jail(None)), (Some("a".into()), Some("b".into()), Some("b".into())));
    assert!(config.jails()[&"a".into()].signatures.is_empty());
    assert_eq!(good(&show(&config)), config);
    for (text, told) in [
        ("[blocklistd]\nsocket = \"/run/s\"\n", "2:1 nobody takes what is reported on this socket"),
        ("[blocklistd]\njail = \"nowhere\"\n", "2:1 there is no jail `nowhere` for the reports"),
        ("[blocklistd]\nusers = [\"a b\"]\n", "2:10 `a b` cannot be a user's name"),
    ] {
        let errors = read(text).unwrap_err();
        let all: Vec<String> = errors.errors.iter().map(|e| format!("{e}")).collect();
        assert!(all.iter().any(|e| e.contains(&told[told.find(' ').unwrap()..])), "{all:?}");
    }
}

#[test]
fn writing_one_source_drops_the_others_default() {
    let built_in = Config::builtin();
    assert!(matches!(sshd(&built_in).reads(true), Reads::Journal(_)) && matches!(sshd(&built_in).reads(false), Reads::Files(_)));
    let config = good("[jail.sshd]\nfiles = [\"/a\"]\n");
    assert_eq!(sshd(&config).reads(true), Reads::Files(&["/a".to_owned()]));
    let config = good("[jail.sshd]\njournal = [\"_UID=0\"]\n");
    assert_eq!(sshd(&config).reads(false), Reads::Nothing);
    assert_eq!(sshd(&good("[jail.sshd]\nmax_retry = 1\n")).files, sshd(&built_in).files);
    assert!(!sshd(&good("[jail.sshd]\nenabled = false\nfiles = []\n")).enabled);
}
