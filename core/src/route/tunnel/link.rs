//! Tunnels without a client: an interface that we make (6in4, GRE).

use super::super::tunnels::LinkTunnel;
use crate::net::Addr;

/// What there is of a tunnel interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkFacts {
    /// It is there, and its local end is this.
    pub local: Option<Addr>,
    /// It is up.
    pub works: bool,
    /// Its addresses that can be used.
    pub addresses: Vec<Addr>,
    /// The address that packets to the far end leave with now; none: there is no way there.
    pub leaves_with: Option<Addr>,
    /// The local end that the provider was last told.
    pub told: Option<Addr>,
}

/// The next thing to do; look again after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkStep {
    /// Make it, with that local end.
    Make(Addr),
    /// Give it that local end, in place.
    SetLocal(Addr),
    /// Switch it on.
    SwitchOn,
    /// Give it these addresses.
    Address(Vec<(Addr, u8)>),
    /// Run `update` with that local end, if its budget allows.
    Update(Addr),
    /// Nothing until there is a way to the far end.
    AwaitUnderlay,
    /// It stands.
    Stands,
}

/// What is to be done next about an interface of ours.
pub fn link(spec: &LinkTunnel, facts: &LinkFacts) -> LinkStep {
    let wanted = spec.local.or(facts.leaves_with);
    let missing: Vec<_> = spec.addresses.iter().filter(|(addr, _)| !facts.addresses.contains(addr)).copied().collect();
    match (wanted, facts.local) {
        // What stands is left: the way may come back with the same address.
        (None, _) => LinkStep::AwaitUnderlay,
        (Some(wanted), None) => LinkStep::Make(wanted),
        (Some(wanted), Some(local)) if wanted != local => LinkStep::SetLocal(wanted),
        (Some(_), Some(_)) if !facts.works => LinkStep::SwitchOn,
        _ if !missing.is_empty() => LinkStep::Address(missing),
        (Some(wanted), _) if spec.update.is_some() && facts.told != Some(wanted) => LinkStep::Update(wanted),
        _ => LinkStep::Stands,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::tunnels::LinkKind;

    fn addr(text: &str) -> Addr {
        text.parse().unwrap()
    }

    #[test]
    fn a_link_is_made_step_by_step_and_follows_the_way_out() {
        let spec = LinkTunnel {
            kind: LinkKind::Sit,
            interface: "he".into(),
            local: None,
            remote: addr("198.51.100.1"),
            ttl: 64,
            mtu: 1480,
            addresses: vec![(addr("2001:db8::2"), 64)],
            update: Some(vec!["curl".into()]),
            budget: None,
        };
        let (one, two) = (addr("192.0.2.1"), addr("192.0.2.2"));
        let mut facts = LinkFacts::default();
        assert_eq!(link(&spec, &facts), LinkStep::AwaitUnderlay);
        facts.leaves_with = Some(one);
        assert_eq!(link(&spec, &facts), LinkStep::Make(one));
        facts.local = Some(one);
        assert_eq!(link(&spec, &facts), LinkStep::SwitchOn);
        facts.works = true;
        assert_eq!(link(&spec, &facts), LinkStep::Address(spec.addresses.clone()));
        facts.addresses = vec![addr("2001:db8::2")];
        assert_eq!(link(&spec, &facts), LinkStep::Update(one));
        facts.told = Some(one);
        assert_eq!(link(&spec, &facts), LinkStep::Stands);
        facts.leaves_with = Some(two);
        assert_eq!(link(&spec, &facts), LinkStep::SetLocal(two));
        assert_eq!(link(&LinkTunnel { local: Some(one), ..spec }, &facts), LinkStep::Stands, "a local end that is said is not followed");
    }
}
