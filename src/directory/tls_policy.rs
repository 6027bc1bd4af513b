//! Which TLS a mail to a next hop must have (§5.3): the domains of the directory are reached encrypted, or, where the
//! provider wants it, by a server that proves its name. Everything else is left to Postfix.
//!
//! A next hop is what Postfix looks a policy up by: a domain, also with a port, or a host in brackets. A host says
//! nothing of whose mail goes to it, unless it bears the name of a certified domain. Postfix asks for `.example` too,
//! where `beta.example` has no policy: a parent of a certified domain is not certified.

use std::fmt;
use std::str::FromStr;

use crate::directory::Directory;
use crate::model::{Domain, Provider};

/// A domain whose servers must prove their name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedDomain {
    pub domain: Domain,
    /// The names that count, as Postfix's `match` takes them; none for the names that the DNS gives.
    pub names: Vec<String>,
}

/// What a mail to a next hop must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsPolicy {
    /// Encryption.
    Encrypt,
    /// A certificate for the name of the server, or for one of these names.
    Verify(Vec<String>),
}

/// The text is not a domain, with or without ` match=NAME:NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a domain that is to be verified")]
pub struct NotVerifiable;

/// Nobody can tell which domains are certified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no providers directory in force")]
pub struct UnknownDirectory;

/// The policy of a next hop; none where it is no certified domain of another provider.
pub fn tls_policy(
    next_hop: &str,
    provider: &Provider,
    directory: &Directory,
    verified: &[VerifiedDomain],
) -> Result<Option<TlsPolicy>, UnknownDirectory> {
    let Ok(domain) = name_of(next_hop).parse::<Domain>() else { return Ok(None) };
    if provider.mail_domains.contains(&domain) {
        return Ok(None);
    }
    if let Some(verified) = verified.iter().find(|verified| verified.domain == domain) {
        return Ok(Some(TlsPolicy::Verify(verified.names.clone())));
    }
    if !directory.is_known() {
        return Err(UnknownDirectory);
    }
    Ok(directory.is_certified(&domain).then_some(TlsPolicy::Encrypt))
}

/// A next hop without brackets and port.
fn name_of(next_hop: &str) -> &str {
    if let Some((host, _)) = next_hop.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return host;
    }
    next_hop.split_once(':').map_or(next_hop, |(name, _)| name)
}

/// As the value of a line of Postfix's `smtp_tls_policy_maps`.
impl fmt::Display for TlsPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsPolicy::Encrypt => write!(f, "encrypt ")?,
            TlsPolicy::Verify(names) if names.is_empty() => write!(f, "verify ")?,
            TlsPolicy::Verify(names) => write!(f, "secure match={} ", names.join(":"))?,
        }
        f.write_str("protocols=>=TLSv1.2")
    }
}

impl FromStr for VerifiedDomain {
    type Err = NotVerifiable;

    fn from_str(text: &str) -> Result<Self, NotVerifiable> {
        let (domain, names) = match text.split_once(" match=") {
            None => (text, Vec::new()),
            Some((domain, names)) => (domain, names.split(':').map(str::to_owned).collect()),
        };
        // `.beta.example` stands for all names below it.
        let is_name = |name: &String| name.strip_prefix('.').unwrap_or(name).parse::<Domain>().is_ok();
        match domain.parse() {
            Ok(domain) if names.iter().all(is_name) => Ok(VerifiedDomain { domain, names }),
            _ => Err(NotVerifiable),
        }
    }
}

impl fmt::Display for VerifiedDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.domain)?;
        if self.names.is_empty() { Ok(()) } else { write!(f, " match={}", self.names.join(":")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::ProviderRecord;

    fn provider(name: &str, domains: &[&str]) -> Provider {
        let first = domains[0];
        Provider {
            name: name.into(),
            sending_address: format!("posta-certificata@{first}").parse().unwrap(),
            service_mailbox: format!("ricevute@{first}").parse().unwrap(),
            mail_domains: domains.iter().map(|domain| domain.parse().unwrap()).collect(),
        }
    }

    /// The answer of alfa.example, which knows beta.example and its hosted domain.
    fn answer(next_hop: &str, verified: &[&str]) -> Option<String> {
        let alfa = provider("Alfa", &["alfa.example"]);
        let beta = ProviderRecord::own(&provider("Beta", &["beta.example", "comune.example"]), vec![b"beta".to_vec()]);
        let own = ProviderRecord::own(&alfa, vec![b"alfa".to_vec()]);
        let directory = Directory::empty().with_own(beta).with_own(own);
        let verified: Vec<VerifiedDomain> = verified.iter().map(|text| text.parse().unwrap()).collect();
        tls_policy(next_hop, &alfa, &directory, &verified).unwrap().map(|policy| policy.to_string())
    }

    #[test]
    fn certified_domains_are_reached_encrypted_and_others_as_postfix_likes() {
        for next_hop in [
            "beta.example",
            "BETA.example",
            "comune.example",
            "beta.example:2525",
            "[beta.example]",
            "[beta.example]:25",
        ] {
            assert_eq!(answer(next_hop, &[]).as_deref(), Some("encrypt protocols=>=TLSv1.2"), "{next_hop}");
        }
        for next_hop in [
            "gamma.example",
            "sub.beta.example",
            ".beta.example",
            ".example",
            "alfa.example",
            "alfa.example:25",
            "[192.0.2.1]:25",
            "[2001:db8::1]:25",
            "[mx.beta.example]:25",
            "[beta.example",
            "",
            "[]",
            ":25",
            "\u{0}",
            "bèta.example",
        ] {
            assert_eq!(answer(next_hop, &[]), None, "{next_hop:?}");
        }
    }

    #[test]
    fn a_server_proves_its_name_where_that_is_wanted() {
        let verified = ["beta.example", "comune.example match=mx.beta.example:.beta.example"];
        assert_eq!(answer("beta.example:25", &verified).as_deref(), Some("verify protocols=>=TLSv1.2"));
        assert_eq!(
            answer("comune.example", &verified).as_deref(),
            Some("secure match=mx.beta.example:.beta.example protocols=>=TLSv1.2")
        );
        // Also while the directory does not list it.
        assert_eq!(answer("gamma.example", &["gamma.example"]).as_deref(), Some("verify protocols=>=TLSv1.2"));
    }

    #[test]
    fn without_a_directory_nobody_knows_who_is_ordinary() {
        let alfa = provider("Alfa", &["alfa.example"]);
        let directory = Directory::unknown().with_own(ProviderRecord::own(&alfa, vec![b"alfa".to_vec()]));
        let verified = ["beta.example".parse().unwrap()];
        let answer = |next_hop: &str| tls_policy(next_hop, &alfa, &directory, &verified);
        assert_eq!(answer("gamma.example"), Err(UnknownDirectory));
        assert_eq!(answer("alfa.example"), Ok(None));
        assert_eq!(answer("beta.example"), Ok(Some(TlsPolicy::Verify(Vec::new()))));
    }

    #[test]
    fn a_name_that_would_be_another_attribute_is_refused() {
        for text in [
            "",
            "beta",
            "beta.example match=",
            "beta.example match=a b",
            "beta.example match=a,protocols=x",
            "x match=a::b",
        ] {
            let read: Result<VerifiedDomain, _> = text.parse();
            // A single label is a domain name as far as it goes.
            assert!(read.is_err() || text == "beta", "{text}");
        }
        let text = "beta.example match=mx.beta.example:.beta.example";
        assert_eq!(text.parse::<VerifiedDomain>().unwrap().to_string(), text);
    }
}
