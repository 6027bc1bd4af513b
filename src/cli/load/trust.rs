//! The CAs that signers must lead to, and their revocation lists (§2.2.2).

use openssl::x509::X509;

use super::{read, told};
use crate::adapters::revocation::{self, ListStore, revocation_lists};
use crate::config::Config;
use crate::model::TemporalReference;
use crate::smime::{Condition, RevocationListError, Trust, WithoutList, newest};

/// The CAs with the lists of the store and of the files that the configuration names, and what is odd about these;
/// `chain` are the certificates (DER) beside this provider's own, whose CAs have lists, too.
pub fn trust(config: &Config, chain: &[Vec<u8>], at: TemporalReference) -> Result<(Trust, Vec<String>), String> {
    let place = config.location("trust.ca_file");
    let text = read(&config.trust.ca_file, &place)?;
    let trust = Trust::from_pem(&text).map_err(|error| told(&place, &error))?;
    let trust = trust.with_answer(config.trust.crl_missing);

    let mut warnings = Vec::new();
    let place = config.location("trust.crl_store");
    let stored = ListStore::at(&config.trust.crl_store).load(&trust, at).map_err(|error| told(&place, &error))?;
    warnings.extend(stored.unusable.iter().map(|line| format!("{place}: {line}")));
    let mut lists: Vec<_> = stored.lists.into_iter().map(|stored| stored.list).collect();
    // A CA that only messages bring may have been met before.
    let met = lists.iter().map(|list| list.issuer().clone());
    let further: Vec<X509> = chain.iter().filter_map(|der| X509::from_der(der).ok()).chain(met).collect();
    for file in &config.trust.crl_files {
        let place = format!("{}: {}", config.location("trust.crl_files"), file.display());
        let octets = revocation::read(file).map_err(|error| told(&place, &error))?;
        match trust.read_list(&octets, &further, at) {
            Ok(list) => lists.push(list),
            // A message may bring the CA's certificate; until then the list is of no use.
            Err(error @ RevocationListError::UnknownIssuer { .. }) => warnings.push(told(&place, &error)),
            Err(error) => return Err(told(&place, &error)),
        }
    }
    let lists = revocation_lists(newest(lists)).map_err(|error| told(&place, &error))?;
    let trust = trust.with_lists(lists);
    warnings.extend(self::warnings(config, &trust, at));
    Ok((trust, warnings))
}

fn warnings(config: &Config, trust: &Trust, at: TemporalReference) -> Vec<String> {
    let mut warnings = Vec::new();
    for list in trust.lists().iter() {
        if list.condition(at, config.trust.crl_update_seconds) == Condition::OutOfDate {
            let place = config.location("trust.crl_store");
            let issuer = list.issuer_name();
            warnings.push(format!(
                "{place}: the revocation list of {issuer} is out of date; `pec-milter trust show` tells more"
            ));
        }
    }
    let place = config.location("trust.crl_missing");
    if config.trust.crl_missing == WithoutList::Accept {
        let when = if config.trust.crl_fetch || !config.trust.crl_files.is_empty() {
            "while a revocation list is missing or out of date"
        } else {
            "ALWAYS, for trust.crl_fetch is false and there are no trust.crl_files:"
        };
        warnings.push(format!("{place}: {when} a revoked signer passes for a good one (§2.2.2)"));
    }
    warnings
}
