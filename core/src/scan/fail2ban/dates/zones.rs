//! Zone abbreviations and offsets, as fail2ban reads them.
//!
//! An abbreviation is a fixed offset, whatever the season; where several zones share one, this is
//! the offset fail2ban takes. The single letters are the military zones.

/// Minutes east of Greenwich.
const ZONES: [(i16, &[&str]); 38] = [
    (-720, &["Y"]),
    (-660, &["X", "NUT", "SST"]),
    (-600, &["W", "CKT", "HAST", "HST", "TAHT", "TKT"]),
    (-570, &["MART", "MIT"]),
    (-540, &["V", "AKST", "GAMT", "GIT", "HADT", "HNY"]),
    (-480, &["U", "AKDT", "CIST", "HAY", "HNP", "PST", "PT"]),
    (-420, &["T", "HAP", "HNR", "MST", "PDT"]),
    (-360, &["S", "CST", "EAST", "GALT", "HAR", "HNC", "MDT"]),
    (-300, &["R", "CDT", "COT", "EASST", "ECT", "EST", "ET", "HAC", "HNE", "PET"]),
    (-270, &["HLV", "VET"]),
    (-240, &["Q", "AST", "BOT", "CLT", "COST", "EDT", "FKT", "GYT", "HAE", "HNA", "PYT"]),
    (-210, &["HNT", "NST", "NT"]),
    (-180, &["P", "ADT", "ART", "BRT", "CLST", "FKST", "GFT", "HAA", "PMST", "PYST", "SRT", "UYT", "WGT"]),
    (-150, &["HAT", "NDT"]),
    (-120, &["O", "BRST", "FNT", "PMDT", "UYST", "WGST"]),
    (-60, &["N", "AZOT", "CVT", "EGT"]),
    (0, &["Z", "EGST", "GMT", "UTC", "WET", "WT"]),
    (60, &["A", "CET", "DFT", "WAT", "WEDT", "WEST"]),
    (120, &["B", "CAT", "CEDT", "CEST", "EET", "SAST", "WAST"]),
    (180, &["C", "EAT", "EEDT", "EEST", "IDT", "MSK"]),
    (210, &["IRST"]),
    (240, &["D", "AMT", "AZT", "GET", "GST", "KUYT", "MSD", "MUT", "RET", "SAMT", "SCT"]),
    (270, &["AFT", "IRDT"]),
    (300, &["E", "AMST", "AQTT", "AZST", "HMT", "MAWT", "MVT", "PKT", "TFT", "TJT", "TMT", "UZT", "YEKT"]),
    (330, &["SLT"]),
    (345, &["NPT"]),
    (360, &["F", "ALMT", "BIOT", "BTT", "IOT", "KGT", "NOVT", "OMST", "YEKST"]),
    (390, &["CCT", "MMT"]),
    (420, &["G", "CXT", "DAVT", "HOVT", "ICT", "KRAT", "NOVST", "OMSST", "THA", "WIB"]),
    (480, &["H", "ACT", "AWST", "BDT", "BNT", "CAST", "HKT", "IRKT", "KRAST", "MYT", "PHT", "SGT", "ULAT", "WITA", "WST"]),
    (540, &["I", "AWDT", "IRKST", "JST", "KST", "PWT", "TLT", "WDT", "WIT", "YAKT"]),
    (570, &["ACST"]),
    (600, &["K", "AEST", "PGT", "VLAT", "YAKST", "YAPT"]),
    (630, &["ACDT", "LHST"]),
    (660, &["L", "AEDT", "LHDT", "MAGT", "NCT", "PONT", "SBT", "VLAST", "VUT"]),
    (690, &["NFT"]),
    (720, &["M", "ANAST", "ANAT", "FJT", "GILT", "MAGST", "MHT", "NZST", "PETST", "PETT", "TVT", "WFT"]),
    (780, &["FJST", "NZDT"]),
];

/// Seconds east of Greenwich of `CET`, `+0200`, `-05:00`, `+01`, `UTC+0300`; `None` for what is none.
pub(super) fn offset(text: &str) -> Option<i64> {
    let letters = text.bytes().take_while(u8::is_ascii_uppercase).count();
    let (name, rest) = text.split_at_checked(letters)?;
    let minutes = match name {
        "" => 0,
        name => i64::from(ZONES.iter().find(|(_, names)| names.contains(&name))?.0),
    };
    Some((minutes + numbered(rest.as_bytes())?) * 60)
}

/// Minutes of `+01`, `+0100`, `+01:00`, or of nothing.
fn numbered(text: &[u8]) -> Option<i64> {
    let [sign, rest @ ..] = text else { return Some(0) };
    let sign = match sign {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = |pair: &[u8]| match pair {
        [a @ b'0'..=b'9', b @ b'0'..=b'9'] => Some(i64::from(a - b'0') * 10 + i64::from(b - b'0')),
        _ => None,
    };
    let (hours, rest) = rest.split_at_checked(2)?;
    let minutes = match rest.strip_prefix(b":").unwrap_or(rest) {
        [] if rest.is_empty() => 0,
        pair => digits(pair)?,
    };
    Some(sign * (digits(hours).filter(|hours| *hours < 20)? * 60 + minutes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_with_and_without_a_name() {
        for (text, minutes) in [
            ("CET", 60),
            ("CEST-01", 60),
            ("+0130", 90),
            ("-10:45", -645),
            ("UTC+0300", 180),
            ("GMT", 0),
            ("NPT", 345),
            ("A", 60),
            ("-05", -300),
        ] {
            assert_eq!(offset(text), Some(minutes * 60), "{text}");
        }
        for wrong in ["cet", "XYZ", "+1", "+25", "+01:", "CET ", "+01:0", "+é1"] {
            assert_eq!(offset(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_abbreviation_stands_twice() {
        let mut all: Vec<_> = ZONES.iter().flat_map(|(_, names)| names.iter()).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
